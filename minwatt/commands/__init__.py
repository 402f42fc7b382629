"""Commands that join two components; the components themselves never import one another."""
