"""Features of the frozen part of a network: computed once, kept on disk, learned from."""
