"""What the scaler's work costs as fleets grow. Run by `make bench`; figures are of the machine it runs on."""
