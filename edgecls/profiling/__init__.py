"""Time of each operator of a file, with one module for each engine. Imports neither TensorFlow nor click."""
