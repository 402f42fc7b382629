"""What must be measured and not asserted: the server (`serving`), its peers (`peers`), the scaler's beat."""
