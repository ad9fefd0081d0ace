"""Measures exported files, says whether the figures can be trusted, and compares them."""
