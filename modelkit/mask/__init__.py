"""Masks personal data in training and captured text."""
