"""Lets `python -m edgecls` do what `edgecls` does."""

from edgecls.cli import main

main()
