"""Times exported files, checks whether the times are valid, and compares them."""
