"""Versions of the tools that made a run or a file, read without importing them."""

from __future__ import annotations

import importlib.metadata
import platform


def tool_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, edgecls and those of the named packages that are installed."""
    from edgecls import __version__

    found = {name: version for name in packages if (version := _version(name)) is not None}
    return {"python": platform.python_version(), "edgecls": __version__, **found}


def _version(package: str) -> str | None:
    """Return the version of the package that Python imports, or None."""
    # Remains of a broken installation have no name.
    found = (each.version for each in importlib.metadata.distributions(name=package) if each.name)
    return next(found, None)
