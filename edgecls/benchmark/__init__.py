"""Measures exported files: time now, machine state and choice later."""
