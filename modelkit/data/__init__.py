"""Reads labelled texts: formats, sets, splits, and how training changes them."""
