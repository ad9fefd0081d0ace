"""Time of each operator, one module an engine, named as in `runtime`. Imports neither TensorFlow nor click."""
