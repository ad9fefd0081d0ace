"""What a run looks like: pictures and one page of them. Needs the `train` extra (Matplotlib, Jinja), not TensorFlow."""
