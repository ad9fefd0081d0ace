"""Exported files: the metadata, the graph and the golden samples inside. Imports no interpreter."""
