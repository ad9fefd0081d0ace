"""Training: the networks, their weights and the fit. Needs the `train` extra (TensorFlow)."""
