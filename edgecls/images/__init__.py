"""Decoding of image files, one module for each format that needs more than Pillow gives."""
