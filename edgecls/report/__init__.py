"""Pictures of a run and the page that shows them. Needs the `train` extra (Matplotlib, Jinja), not TensorFlow."""
