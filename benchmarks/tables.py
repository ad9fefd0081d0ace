"""Rewrite the tables of README.md and docs/ from benchmarks/results/.

    python benchmarks/tables.py [--check] [DOCUMENT...]

A table is between `<!-- table: NAME -->` and `<!-- end -->`, each on a line of its own. Its numbers come from
results/NAME.json. The script whose name begins NAME lays them out: `versus-stock-magnetic-tile` belongs to
versus_stock.py. A script has a function `table(record)`, which returns rows of cells, or `text(record)`, which returns
Markdown. The line below a table says how the numbers were measured, and names what the record lacks.

`<!-- table: NAME, short: A; B -->` shows only the rows, or the recorded commands, that begin with A or B, and a short
line below it; of a command's output, `A (5 lines)` shows the first 5 lines. `<!-- table: NAME, short -->` shows all of
them. `--check` writes nothing and fails if a document differs from the results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from record import RESULTS

from edgecls.files import write_atomically

HERE = Path(__file__).parent
DOCUMENTS = (HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md")))
MARKED = re.compile(
    r"^(<!-- table: ([\w.-]+)(, short(?:: ([^\n>]+))?)? -->)\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)
BEGIN, END = "<!-- table:", "<!-- end -->"


def rewrite(text: str, results: Path) -> str:
    """Return a document with the current numbers in every marked table."""
    begun, ended, whole = text.count(BEGIN), text.count(END), len(MARKED.findall(text))
    if not begun == ended == whole:
        sys.exit(f"{begun} lines '{BEGIN} NAME -->', {ended} lines '{END}', {whole} pairs; fix the document")
    return MARKED.sub(lambda found: f"{found[1]}\n\n{_render_marked(found, results)}\n\n{END}", text)


def _render_marked(found: re.Match[str], results: Path) -> str:
    beginnings = tuple(part.strip() for part in found[4].split(";")) if found[4] else ()
    return render(found[2], results, short=bool(found[3]), beginnings=beginnings)


def render(name: str, results: Path, short: bool = False, beginnings: tuple[str, ...] = ()) -> str:
    """Return one table in Markdown with the line below it, or a line that says that there are no results yet.

    Args:
        name: of the result, without .json.
        results: the folder of results.
        short: give the short line below the table.
        beginnings: of the rows or commands to show; all of them if there are none.
    """
    script = find_script(name)
    path = results / f"{name}.json"
    if not path.is_file():
        return f"Not measured yet: `python benchmarks/{script}.py` writes `results/{path.name}`."
    record = json.loads(path.read_text(encoding="utf-8"))
    module = importlib.import_module(script)
    below = short_caption(record, path) if short else caption(record, script)
    if hasattr(module, "text"):
        limits = dict(_split_limit(beginning) for beginning in beginnings)
        commands = _select(record["commands"], [row["command"] for row in record["commands"]], tuple(limits), name)
        commands = [_cut(row, limits) for row in commands]
        return f"{module.text(record | {'commands': commands})}\n\n{below}"
    header, *lines = module.table(record)
    lines = _select(lines, [" ".join(line).replace("*", "") for line in lines], beginnings, name)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)) + f"\n\n{below}"


def _split_limit(beginning: str) -> tuple[str, int | None]:
    """Return the beginning of a command, and how many lines of its output are shown; None for all."""
    limited = re.fullmatch(r"(.+) \((\d+) lines\)", beginning)
    return (limited[1], int(limited[2])) if limited else (beginning, None)


def _cut(row: dict[str, Any], limits: dict[str, int | None]) -> dict[str, Any]:
    """Return a recorded command with the lines that are shown."""
    limit = next((limit for beginning, limit in limits.items() if row["command"].startswith(beginning)), None)
    return row if limit is None or len(row["lines"]) <= limit else row | {"lines": [*row["lines"][:limit], "..."]}


def _select(rows: list[Any], texts: list[str], beginnings: tuple[str, ...], name: str) -> list[Any]:
    """Return the rows whose texts begin with one of `beginnings`, in the order of the record."""
    for beginning in beginnings:
        if not any(text.startswith(beginning) for text in texts):
            sys.exit(f"table {name!r} has no row that begins with {beginning!r}; its rows are: {'; '.join(texts)}")
    return [row for row, text in zip(rows, texts, strict=True) if not beginnings or text.startswith(beginnings)]


def find_script(name: str) -> str:
    """Return the module of benchmarks/ that writes results/NAME.json: the longest whose name NAME begins with."""
    stems = sorted((path.stem for path in HERE.glob("*.py")), key=len, reverse=True)
    for stem in stems:
        if f"{name}-".startswith(f"{stem.replace('_', '-')}-"):
            return stem
    sys.exit(f"table {name!r} begins with the name of no script in {HERE.name}/; these are: {', '.join(sorted(stems))}")


def caption(record: dict[str, Any], script: str) -> str:
    """Return how the numbers were measured, and in bold what the record lacks."""
    parts = [_machine(record), _versions(record), _date(record), _validity(record)]
    parts.append(f"`{record.get('command', f'python benchmarks/{script}.py')}`")
    note = f" {record['note']}" if "note" in record else ""
    return f"{'; '.join(parts)}.{note}"


def short_caption(record: dict[str, Any], path: Path) -> str:
    """Return the line below a short table: the machine, the date, whether it is valid, and the file with the rest."""
    source = f"[all data](benchmarks/results/{path.name})"
    return f"{'; '.join([_machine(record), _date(record), _validity(record), source])}."


def _date(record: dict[str, Any]) -> str:
    return record.get("date") or "**date not recorded**"


def _machine(record: dict[str, Any]) -> str:
    machine = record.get("machine")
    if not isinstance(machine, dict):
        return "**machine not recorded**"
    name = machine.get("board") or machine.get("cpu") or machine.get("arch")
    isa = f" ({' '.join(features)})" if (features := machine.get("isa") or machine.get("flags")) else ""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return f"{name}{isa}, {machine['cpus']} CPUs{gpu}"


def _versions(record: dict[str, Any]) -> str:
    versions = record.get("versions")
    if not versions:
        return "**versions not recorded**"
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _validity(record: dict[str, Any]) -> str:
    if "valid" not in record:
        return "**validity not recorded**"
    return "valid" if record["valid"] else f"**not valid: {', '.join(record['causes'])}**"


def main() -> None:
    """Rewrite or check the documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="*", type=Path, default=DOCUMENTS, help="(default: README.md and docs/)")
    parser.add_argument("--check", action="store_true", help="fail if a document differs from the results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    stale = []
    for path in arguments.documents:
        old = path.read_text(encoding="utf-8")
        new = rewrite(old, arguments.results)
        if path.parent.name == "docs":
            new = new.replace("](benchmarks/", "](../benchmarks/")
        if new == old:
            print(f"{path.name} agrees with the results")
        elif arguments.check:
            stale.append(path.name)
        else:
            write_atomically(path, new.encode())
            print(f"rewrote the tables of {path.name}")
    if stale:
        sys.exit(f"{', '.join(stale)}: differs from benchmarks/results; run 'make bench-tables'")


if __name__ == "__main__":
    main()
