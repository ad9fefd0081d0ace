"""Time of each operator of a file, one module an engine. Imports neither TensorFlow nor click."""
