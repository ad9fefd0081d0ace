"""The networks whose latencies others have published, from devices/tables/networks.toml."""

from __future__ import annotations

import functools

from edgecls.boards.profiles import read_table
from edgecls.estimate.operators import Network, Operator


@functools.cache
def published_network(model: str) -> Network:
    """Return the operators of a network by the name that published latencies give it."""
    row = read_table("networks")[model]
    return Network(model, row["arch"], tuple(Operator(*each) for each in row["operators"]))
