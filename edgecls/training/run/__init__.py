"""The folder of a training run: what is written while it trains, kept, and read back."""
