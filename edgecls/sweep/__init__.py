"""Finds the most accurate network for a latency budget. Imports TensorFlow and Optuna where it trains alone."""
