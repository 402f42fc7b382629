"""What computes a batch. One module a runtime; each is the only importer of its library."""
