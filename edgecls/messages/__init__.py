"""How values are shown in messages. Imports the standard library only."""
