"""Makes a graph smaller and faster, and picks what keeps its scores."""
