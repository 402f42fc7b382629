"""Trains one encoder with a head for each task. Needs torch (the `train` extra)."""
