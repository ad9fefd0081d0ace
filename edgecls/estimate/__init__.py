"""Predicts the latency of a network on a board that is not here. Imports numpy and light modules of edgecls only."""
