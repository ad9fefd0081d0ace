"""The networks that a sweep tries: every combination of the settings asked for, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from edgecls.config import TrainConfig
from edgecls.config.choices import BLOCKS

# Of a grid, and of a search.
IMAGE_SIZES, SIZES = (96, 128, 160, 224), (64, 96, 128, 160, 192, 224, 256)


@dataclass(frozen=True)
class Space:
    """The settings that are combined; all but `archs` and `image_sizes` are for mobilenet_v2 only."""

    archs: tuple[str, ...] = (TrainConfig.arch,)  # any of `config.choices.ARCHS`
    image_sizes: tuple[int, ...] = IMAGE_SIZES  # sides in pixels
    alphas: tuple[float, ...] = (TrainConfig.alpha,)  # widths
    blocks: tuple[int | None, ...] = (TrainConfig.blocks,)  # how many are kept
    heads: tuple[str, ...] = (TrainConfig.head,)  # any of `config.choices.HEADS`
    unfreeze: tuple[int, ...] = (0,)  # how many of the last blocks are fine-tuned


@dataclass(frozen=True)
class NamedNetwork:
    """A network to try."""

    name: str  # of its run folder
    config: TrainConfig  # to train it with

    def is_like(self, config: TrainConfig) -> bool:
        """Return whether a config is of the same network, however it is trained."""
        return self.network == NamedNetwork("", config).network and self.config.head == config.head

    @property
    def network(self) -> tuple[str, int, float, int]:
        """Return what networks of nearly the same latency have in common; they also share frozen features."""
        return self.config.arch, self.config.image_size, self.config.alpha, self.config.blocks or BLOCKS + 1


def list_candidates(space: Space, base: TrainConfig) -> tuple[NamedNetwork, ...]:
    """Return the networks of a space, each once; `base` has all other settings.

    Raises:
        ConfigError: a setting is out of range.
    """
    return tuple(NamedNetwork(name_of(config), config) for config in dict.fromkeys(_configs(space, base)))


def _configs(space: Space, base: TrainConfig) -> Iterator[TrainConfig]:
    for arch, size in product(space.archs, space.image_sizes):
        if arch != "mobilenet_v2":
            yield replace(base, arch=arch, image_size=size)
            continue
        for alpha, blocks, head, unfreeze in product(space.alphas, space.blocks, space.heads, space.unfreeze):
            network = replace(base, arch=arch, image_size=size, alpha=alpha, blocks=blocks)
            yield replace(network, head=head, unfreeze=unfreeze)


def name_of(config: TrainConfig) -> str:
    """Return the name of a network's run folder."""
    parts = [config.arch, str(config.image_size)]
    if config.uses_backbone:
        parts += [f"{config.alpha:g}", *([f"blocks{config.blocks}"] if config.blocks else []), config.head]
    if config.unfreeze:
        parts.append(f"unfreeze{config.unfreeze}")
    if config.main_effort != "quick":
        parts.append("fine-tuned")
    return "-".join(parts)


def short_names(candidates: tuple[NamedNetwork, ...]) -> dict[str, str]:
    """Return how each candidate differs from the others, for pictures: "128 px, flatten"."""
    configs = [candidate.config for candidate in candidates]
    words: dict[str, Callable[[TrainConfig], str]] = {
        "arch": lambda c: c.arch,
        "image_size": lambda c: f"{c.image_size} px",
        "alpha": lambda c: f"alpha {c.alpha:g}" if c.uses_backbone else "",
        "blocks": lambda c: f"{c.blocks} blocks" if c.blocks else "",
        "head": lambda c: c.head if c.uses_backbone else "",
        "unfreeze": lambda c: (
            f"unfreeze {c.unfreeze}" if c.unfreeze else "" if c.main_effort == "quick" else "fine-tuned"
        ),
    }
    differing = [name for name in words if name == "image_size" or len({getattr(c, name) for c in configs}) > 1]
    return {
        candidate.name: ", ".join(filter(None, (words[name](candidate.config) for name in differing)))
        for candidate in candidates
    }
