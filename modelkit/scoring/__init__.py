"""Scores graphs and networks: accuracy, entity F1, by label, and how sure that is."""
