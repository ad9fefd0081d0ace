"""Versions of the tools that made a run or a file, read without importing them."""

from __future__ import annotations

import importlib.metadata
import platform


def tool_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, edgecls and those of the named packages that are installed."""
    from edgecls import __version__

    # Reversed, so that the version that Python imports wins. Remains of a broken installation have no name.
    named = [dist for dist in importlib.metadata.distributions() if dist.name][::-1]
    installed = {dist.name.lower().replace("_", "-"): dist.version for dist in named}
    found = {name: installed[name] for name in packages if name in installed}
    return {"python": platform.python_version(), "edgecls": __version__, **found}
