"""Measures the variants of a model directory against one another: the energy card."""
