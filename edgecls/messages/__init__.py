"""Formatting of values in messages and pages. Imports the standard library, and Jinja on use."""
