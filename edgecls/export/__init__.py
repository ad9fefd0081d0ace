"""Exports a trained model as TFLite and ONNX files. Needs the `train` extra (TensorFlow)."""
