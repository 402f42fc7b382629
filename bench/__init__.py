"""What must be measured and not asserted: the server (`serving`), its peers (`peers`), and the scaler's work."""
