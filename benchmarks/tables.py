"""Rewrite the tables of the README and of docs/ from benchmarks/results/.

    python benchmarks/tables.py [--check] [DOCUMENT...]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, alone in their lines. Its figures are those of
results/NAME.json, laid out by `table` of the script whose name NAME begins with: `versus-stock-magnetic-tile` is of
versus_stock.py. A script may have `text`, which returns Markdown, instead. Below stands what they depend on, and what
the JSON does not tell. `--check` writes nothing and fails if a document says something else than the results.
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
MARKED = re.compile(r"^<!-- table: ([\w.-]+) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE)
BEGIN, END = "<!-- table:", "<!-- end -->"


def rewrite(text: str, results: Path) -> str:
    """Return a document with every marked table made anew."""
    begun, ended, whole = text.count(BEGIN), text.count(END), len(MARKED.findall(text))
    if not begun == ended == whole:
        sys.exit(f"{begun} lines '{BEGIN} NAME -->', {ended} lines '{END}', {whole} pairs; mend the document")
    return MARKED.sub(lambda found: f"<!-- table: {found[1]} -->\n\n{render(found[1], results)}\n\n{END}", text)


def render(name: str, results: Path) -> str:
    """Return one table in Markdown with the line below it, or a line that says that there are no results yet."""
    script = find_script(name)
    path = results / f"{name}.json"
    if not path.is_file():
        return f"Not measured yet: `python benchmarks/{script}.py` writes `results/{path.name}`."
    record = json.loads(path.read_text(encoding="utf-8"))
    module = importlib.import_module(script)
    if hasattr(module, "text"):
        return f"{module.text(record)}\n\n{caption(record, script)}"
    lines = module.table(record)
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{caption(record, script)}"


def find_script(name: str) -> str:
    """Return the module of benchmarks/ that writes results/NAME.json: the longest whose name NAME begins with."""
    stems = sorted((path.stem for path in HERE.glob("*.py")), key=len, reverse=True)
    for stem in stems:
        if f"{name}-".startswith(f"{stem.replace('_', '-')}-"):
            return stem
    sys.exit(f"no script in {HERE.name}/ is called as the table {name!r} begins; these are: {', '.join(sorted(stems))}")


def caption(record: dict[str, Any], script: str) -> str:
    """Return what the figures depend on, and in bold what the record does not tell."""
    parts = [_machine(record), _versions(record), record.get("date") or "**date not recorded**", _validity(record)]
    parts.append(f"`{record.get('command', f'python benchmarks/{script}.py')}`")
    note = f" {record['note']}" if "note" in record else ""
    return f"{'; '.join(parts)}.{note}"


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
        return "**whether the machine was quiet was not recorded**"
    return "valid" if record["valid"] else f"**not valid: {', '.join(record['causes'])}**"


def main() -> None:
    """Rewrite the documents, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="*", type=Path, default=DOCUMENTS, help="(default: README.md and docs/)")
    parser.add_argument("--check", action="store_true", help="fail if a document is not what the results say")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    stale = []
    for path in arguments.documents:
        old = path.read_text(encoding="utf-8")
        new = rewrite(old, arguments.results)
        if new == old:
            print(f"{path.name} is what the results say")
        elif arguments.check:
            stale.append(path.name)
        else:
            write_atomically(path, new.encode())
            print(f"rewrote the tables of {path.name}")
    if stale:
        sys.exit(f"{', '.join(stale)}: not what benchmarks/results says; run 'make bench-tables'")


if __name__ == "__main__":
    main()
