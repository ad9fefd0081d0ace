"""Commands on another machine over ssh. Imports the standard library and our errors only."""
