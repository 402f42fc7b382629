"""Sampled requests written to files that `minwatt replay --capture` reads."""
