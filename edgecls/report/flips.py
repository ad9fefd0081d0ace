"""A page of the images whose result differs between two exported files; it needs no other file."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from edgecls.compare import Flip, ModelComparison
from edgecls.files import write_rendered
from edgecls.messages.names import safe
from edgecls.messages.numbers import percent

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2328; --soft: #5b6670; --good: #16783c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181c; --ink: #e6e9ec; --soft: #9aa5af; --good: #6cc48a; --bad: #f2857d; } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem; padding: 0;
  list-style: none; }
img { display: block; width: 100%; height: 10rem; object-fit: contain; }
.soft { color: var(--soft); font-size: .85rem; } .good { color: var(--good); } .bad { color: var(--bad); }
"""


def write_flips(path: Path, result: ModelComparison, new: Path, old: Path) -> None:
    """Write a page to `path` that shows the images which only one of the files `new` and `old` labels correctly."""
    page = _render(result, new, old).encode()
    write_rendered(path, lambda buffer: buffer.write(page))


def _render(result: ModelComparison, new: Path, old: Path) -> str:
    old_accuracy, new_accuracy = percent(result.old.accuracy, 2), percent(result.new.accuracy, 2)
    accuracy = f"{old_accuracy} (old) and {new_accuracy} (new) of {result.new.images} images"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Changed images: {result.verdict}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>The new file is {result.verdict}{" than the old one" if result.verdict != "not worse" else ""}</h1>
<p>New: {_text(new)}<br>Old: {_text(old)}</p>
<p>Correct: {accuracy}. p = {result.p_value:.2g} (exact McNemar test).</p>
{_section("Broken: only the old file is correct", [flip for flip in result.flips if not flip.fixed])}
{_section("Fixed: only the new file is correct", [flip for flip in result.flips if flip.fixed])}
</body>
</html>
"""


def _section(title: str, flips: list[Flip]) -> str:
    shown = [flip for flip in flips if flip.picture is not None]
    rest = f"<p>{len(flips) - len(shown)} more are not shown.</p>" if len(shown) < len(flips) else ""
    items = "\n".join(map(_item, shown))
    return f"<h2>{title} ({len(flips)})</h2>\n<ul>\n{items}\n</ul>\n{rest}"


def _item(flip: Flip) -> str:
    kind = "good" if flip.fixed else "bad"
    return (
        f'<li><img src="data:image/png;base64,{_encode(flip)}" alt="{_text(flip.path.name)}">'
        f"{_text(flip.label)}<br>old: {_text(flip.old)}<br>"
        f'<span class="{kind}">new: {_text(flip.new)}</span><br><span class="soft">{_text(flip.path)}</span></li>'
    )


def _text(value: object) -> str:
    return escape(safe(str(value)))


def _encode(flip: Flip) -> str:
    buffer = io.BytesIO()
    assert flip.picture is not None
    flip.picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
