"""The table of published networks is what the script counts."""

from __future__ import annotations

import published_networks

from edgecls.estimate.published_networks import published_network


def test_the_table_is_what_the_script_counts() -> None:
    assert published_networks.TABLE.read_text(encoding="utf-8") == published_networks.format_table()
    for model, (arch, build) in published_networks.BUILDERS.items():
        found = published_network(model)
        assert (found.name, found.arch, list(found.operators)) == (model, arch, build())
