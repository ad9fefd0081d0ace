"""Boards and this machine: profiles, what fits them, what to install. Imports no interpreter."""
