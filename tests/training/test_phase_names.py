from __future__ import annotations

import pytest

from edgecls.training.phase_names import phase_name, trained_part


@pytest.mark.parametrize(
    ("old", "new"), [("head", "classifier"), ("views", "augmented"), ("unfreeze", "fine-tuning"), ("all", "network")]
)
def test_phases_of_older_runs_have_todays_names(old: str, new: str) -> None:
    assert phase_name(old) == phase_name(new) == new
    assert trained_part(old) == trained_part(new) != old
