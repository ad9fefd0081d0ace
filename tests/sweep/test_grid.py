from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.config import TrainConfig
from edgecls.config.choices import ARCHS, HEADS
from edgecls.errors import ConfigError
from edgecls.sweep.grid import Space, list_candidates, short_names


def some(values: list) -> st.SearchStrategy:  # type: ignore[type-arg]
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


spaces = st.builds(
    Space,
    archs=some(list(ARCHS)),
    image_sizes=some([96, 128, 224]),
    alphas=some([0.35, 1.0]),
    blocks=some([None, 5, 17]),
    heads=some(list(HEADS)),
    unfreeze=some([0, 3]),
)


@given(spaces)
def test_every_network_is_there_once_under_a_name_of_its_own(space: Space) -> None:
    found = list_candidates(space, TrainConfig())
    wide = len(space.alphas) * len(space.blocks) * len(space.heads) * len(space.unfreeze)
    networks = sum(wide if arch == "mobilenet_v2" else 1 for arch in space.archs)
    assert len(found) == len(space.image_sizes) * networks
    assert len({each.name for each in found}) == len({each.config for each in found}) == len(found)
    assert len(set(short_names(found).values())) == len(found)


def test_other_settings_are_those_of_the_base() -> None:
    base = TrainConfig(epochs=7, seed=3, augment=None)
    (found,) = list_candidates(Space(archs=("cnn",), image_sizes=(32,), unfreeze=(3,)), base)
    assert found.name == "cnn-32"
    assert (found.config.epochs, found.config.seed, found.config.augment, found.config.unfreeze) == (7, 3, None, None)


def test_names_for_pictures_say_what_differs() -> None:
    found = list_candidates(Space(image_sizes=(96,), unfreeze=(0, 3)), TrainConfig())
    assert list(short_names(found).values()) == ["96 px", "96 px, unfreeze 3"]


def test_what_no_network_can_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="image size must be 32 to"):
        list_candidates(Space(image_sizes=(8,)), TrainConfig())
