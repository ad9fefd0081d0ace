"""What makes a network fit for int8 files, and what int8 does to it."""
