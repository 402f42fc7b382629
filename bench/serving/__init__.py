"""What the server costs and how near it comes to the engine: `python -m bench.serving`, `make bench`."""
