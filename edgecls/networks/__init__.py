"""The networks, their presets and their pretrained weights. Builds them with TensorFlow, on use."""
