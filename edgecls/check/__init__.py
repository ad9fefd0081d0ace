"""Does this file run on that board? The standard library reads the file: no interpreter is imported."""
