"""What the layers' gradients, updates and ReLUs say of the fit. Imports numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.messages.lists import some
from edgecls.training.diagnosis.finding import Finding, bounded
from edgecls.training.history import Divergence, EpochRecord

# Words for each phase of `EpochRecord`.
LEARNS = {
    "classifier": "the classifier",
    "augmented": "the classifier on augmented copies",
    "joint": "gray_to_rgb and the classifier",
    "fine-tuning": "the unfrozen blocks",
    "network": "the network",
}
# In fewer layers there is no chain of factors that could vanish or explode.
MIN_LAYERS = 3
# First against last layer. A chain of sigmoids loses a factor of 4 or more a layer (their slope is at most 0.25);
# healthy networks of this package stay within a factor of 30 from layer to layer in either direction.
VANISHING_FACTOR = 1e-2
# Of log(gradient norm) with depth: the fall must be the exponential one, not one odd layer.
MIN_CORRELATION = 0.8
# The gradient of cross-entropy with respect to a score is at most sqrt(2); a layer multiplies it by its inputs, about 1
# to 30 in norm. A thousand is reached only through large weights.
EXPLODED_NORM = 1e3
# Gradients shrink while a network learns; a tenfold rise may be a hard batch.
GROWTH_FACTOR = 100.0
# Below this norm growth from a quiet start harms nothing.
MIN_GROWN_NORM = 10.0
# A Dense layer on flattened ReLU outputs may start with half its units dead (they all lean one way) and learn well.
DEAD_SHARE, ALL_DEAD_SHARE = 0.8, 0.99
# Logarithms of gradients that are exactly zero.
_TINY = 1e-30


def layer_findings(
    phases: Sequence[Sequence[EpochRecord]], config: TrainConfig, divergence: Divergence | None
) -> Iterator[Finding]:
    """Yield what the layers and a divergence show, phase by phase."""
    blew_up = None
    if divergence is not None:
        yield _not_finite(divergence)
        if not _was_so_from_the_start(divergence):
            blew_up = divergence
    for records in phases:
        yield from _vanishing(records)
        yield from _dead_relus(records, config)
        if blew_up is None or blew_up.phase != records[0].phase:
            yield from _exploding(records[0].phase, records, config, None)
    if blew_up is not None:
        # Its first epoch may not have got as far as a record.
        records = [record for phase in phases for record in phase if record.phase == blew_up.phase]
        yield from _exploding(blew_up.phase, records, config, blew_up)


def layer_values(records: Sequence[EpochRecord], name: str) -> NDArray[np.float64]:
    """Return a number of `LayerRecord` as float64 (epochs, layers); no column if the layers were not watched."""
    rows = [[float(getattr(layer, name)) for layer in record.layers] for record in records]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return np.empty((len(rows), 0))
    return bounded(rows)


def _not_finite(found: Divergence) -> Finding:
    what = f"{found.what} of layer {found.layer}" if found.layer and found.what != "loss" else found.what
    text = (
        f"In epoch {found.epoch}, step {found.step}, of training {LEARNS.get(found.phase, found.phase)} the "
        f"{what} became NaN or infinite. Training stopped there; the best weights before it were kept."
    )
    if _was_so_from_the_start(found):
        return Finding(
            "not-finite",
            "error",
            text + " No step came before it, so not the training but what it began from is the cause: the weights, or "
            "initial values far too large.",
            "Check the weights file (--weights); a network trained from the start needs He initialisation before ReLU.",
        )
    return Finding("not-finite", "error", text, "See exploding-gradients, its usual cause.")


def _was_so_from_the_start(found: Divergence) -> bool:
    """Return whether the loss was not finite before anything was learned."""
    return found.epoch == 1 and found.step == 0 and found.what == "loss"


def _vanishing(records: Sequence[EpochRecord]) -> Iterator[Finding]:
    """Compare the first layers with the last: by gradients, since Adam's updates hide their size until it is tiny."""
    gradients, updates = (_typical(records, name) for name in ("gradient_norm", "update_ratio"))
    # Behind a dead layer gradients are zero, whatever the depth.
    if len(gradients) < MIN_LAYERS or _dead_layers(records):
        return
    names = [layer.name for layer in records[0].layers]
    falls = max(_steepness(gradients), _steepness(updates))
    if falls < -np.log10(VANISHING_FACTOR):
        return
    yield Finding(
        "vanishing-gradients",
        "error",
        f"The first layers of {LEARNS.get(records[0].phase, records[0].phase)} hardly learn, and it gets worse from "
        f"layer to layer: gradients of {gradients[0]:.1g} in {names[0]} against {gradients[-1]:.1g} in {names[-1]}; a "
        f"step changes them by {updates[0]:.1g} and {updates[-1]:.1g} of their weights.",
        "ReLU instead of sigmoid or tanh, He initialisation, --batch-norm, fewer layers (--filters, --hidden), "
        "or --clip-norm 1.",
    )


def _typical(records: Sequence[EpochRecord], name: str) -> NDArray[np.float64]:
    """Return the median over the epochs for each layer: a slow start alone is no illness."""
    values = layer_values(records, name)
    return np.median(values, axis=0) if len(values) else np.empty(0)


def _steepness(values: NDArray[np.float64]) -> float:
    """Return by how many powers of ten `values` grow from the first to the last layer, if exponentially; else 0."""
    logs = np.log10(np.maximum(values, _TINY))
    if np.ptp(logs) == 0:
        return 0.0
    depth = np.arange(len(logs))
    if abs(np.corrcoef(depth, logs)[0, 1]) < MIN_CORRELATION:
        return 0.0
    return float(np.polyfit(depth, logs, 1)[0] * (len(logs) - 1))


def _exploding(
    phase: str, records: Sequence[EpochRecord], config: TrainConfig, divergence: Divergence | None
) -> Iterator[Finding]:
    seen = list(_growth(records))
    if divergence is not None:
        seen.append(f"in epoch {divergence.epoch}, step {divergence.step}, numbers were no longer finite")
    if seen:
        yield Finding(
            "exploding-gradients",
            "error",
            f"Training {LEARNS.get(phase, phase)} blew up: {'; '.join(seen)}.",
            f"--clip-norm 1, {smaller_rate(phase, config)}, He initialisation, --batch-norm, or fewer layers "
            "(--filters, --hidden).",
        )


def _growth(records: Sequence[EpochRecord]) -> Iterator[str]:
    """Yield signs of gradients that are too large, grow with the epochs, or grow from the scores to the image."""
    values = layer_values(records, "gradient_norm")
    if not values.size:
        return
    norms, typical = np.linalg.norm(values, axis=1), _typical(records, "gradient_norm")
    top = int(norms.argmax())
    least = float(norms[: top + 1].min())
    if norms[top] > EXPLODED_NORM:
        yield f"the norm of all gradients was {norms[top]:.2g} in epoch {records[top].epoch}"
    if norms[top] > max(GROWTH_FACTOR * least, MIN_GROWN_NORM):
        yield f"it grew from {least:.2g} to {norms[top]:.2g}"
    if len(typical) >= MIN_LAYERS and typical[0] > MIN_GROWN_NORM and _steepness(typical) < -np.log10(GROWTH_FACTOR):
        yield f"gradients grow from layer to layer towards the image, from {typical[-1]:.2g} to {typical[0]:.2g}"


def smaller_rate(phase: str, config: TrainConfig) -> str:
    """Return the option, with a value, that makes the steps of a phase ten times smaller."""
    if phase in ("joint", "fine-tuning"):
        return f"--fine-learning-rate {config.fine_learning_rate / 10:.2g}"
    return f"--learning-rate {config.main_learning_rate / 10:.2g}"


def _dead_relus(records: Sequence[EpochRecord], config: TrainConfig) -> Iterator[Finding]:
    dead = _dead_layers(records)
    if dead:
        worst = max(dead.values())
        listed = some(f"{name} ({share:.0%})" for name, share in dead.items())
        yield Finding(
            "dead-relus",
            "error" if worst >= ALL_DEAD_SHARE else "warning",
            f"Outputs that are zero for every image, and so learn nothing more: {listed}.",
            f"{smaller_rate(records[0].phase, config)}, --clip-norm 1, --batch-norm, or He initialisation; a layer "
            "that works with few live outputs may be made smaller (--filters, --hidden).",
        )


def _dead_layers(records: Sequence[EpochRecord]) -> dict[str, float]:
    shares = {layer.name: layer.dead_share for layer in records[-1].layers if layer.dead_share is not None}
    return {name: share for name, share in shares.items() if share >= DEAD_SHARE}
