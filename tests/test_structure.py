"""The package stays easy to read: few modules at its root, no long files or functions, no class name twice."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "edgecls"
MOST_LINES, MOST_FUNCTION_LINES, MOST_ROOT_MODULES = 300, 40, 13


def find_long(text: str) -> Iterator[str]:
    """Yield what is too long in a module: the file, and functions with their docstring and without decorators."""
    if (lines := len(text.splitlines())) > MOST_LINES:
        yield f"{lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if (lines := node.end_lineno - node.lineno + 1) > MOST_FUNCTION_LINES:
                yield f"{node.name}: {lines} lines"


def test_no_file_and_no_function_is_long() -> None:
    found = [f"{path}: {what}" for path in PACKAGE.rglob("*.py") for what in find_long(path.read_text("utf-8"))]
    assert not found, "\n".join(["split these:", *found])


def test_the_root_of_the_package_has_few_modules() -> None:
    names = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(names) <= MOST_ROOT_MODULES, f"move one of these into a folder: {names}"


def test_each_class_has_a_name_of_its_own() -> None:
    trees = [ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    # Private classes are seen in their module alone.
    found = [name for name, count in names.items() if count > 1 and not name.startswith("_")]
    assert not found, f"give these classes of two modules two names: {found}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\n" * 300, []),
        ("x = 1\n" * 301, ["301 lines"]),
        ("@click.option()\ndef f():\n" + "    x = 1\n" * 39, []),
        ("class C:\n    async def f(self):\n" + "        x = 1\n" * 40, ["f: 41 lines"]),
    ],
)
def test_what_is_long_is_found(text: str, found: list[str]) -> None:
    assert list(find_long(text)) == found
