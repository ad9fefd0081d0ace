"""Features of the frozen feature extractor: computed once, kept on disk, used for training."""
