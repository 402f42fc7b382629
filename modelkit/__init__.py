"""Builds and evaluates model directories: fine-tune, export, quantize, score."""
