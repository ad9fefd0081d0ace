"""The fastest way to run a trained network that keeps its accuracy. What `edgecls choose` does."""
