"""Export: a trained model becomes TFLite and ONNX files. Needs the `train` extra (TensorFlow)."""
