"""Formatting of values in messages. Imports the standard library only."""
