"""How the settings of now differ from those of an earlier call, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgecls.listing import short, some


def tell_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return each setting of `now` that was another one before, with both values; "" if there is none."""
    changed = [name for name in now if before.get(name) != now[name]]
    return some(f"{name} ({short(before.get(name))} then, {short(now[name])} now)" for name in changed)
