"""Finds the most accurate network for a latency budget. Imports TensorFlow only where it trains."""
