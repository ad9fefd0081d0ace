"""Commands on another machine over ssh. Imports the standard library, our errors and progress only."""
