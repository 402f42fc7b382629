"""What a model directory proves and says of itself before it is used."""
