"""Runs exported files: one module an engine, named after it. Imports neither TensorFlow nor click."""
