"""Finds the fastest way to run a trained network that keeps its accuracy (`edgecls choose`)."""
