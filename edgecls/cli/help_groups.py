"""Help pages whose options stand in groups; Click itself has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click


class GroupedCommand(click.Command):
    """A command for `click.command(cls=GroupedCommand, groups={title: parameter names})`.

    Options of no group follow under "Options".
    """

    def __init__(self, *args: Any, groups: Mapping[str, Iterable[str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups in their order."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        rows = {option.name: row for option in options if (row := option.get_help_record(ctx))}
        grouped = [(title, [rows.pop(name) for name in names if name in rows]) for title, names in self.groups.items()]
        for title, lines in [*grouped, ("Options", list(rows.values()))]:
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)
