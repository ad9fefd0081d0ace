"""Prepares a network for int8 files, and measures what int8 does to it."""
