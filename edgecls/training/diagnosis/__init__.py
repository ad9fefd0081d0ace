"""What went wrong in a training run, and what to try next."""
