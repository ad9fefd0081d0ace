"""Rules about gradients, updates and ReLUs of the layers. Imports numpy only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgecls.messages.lists import some
from edgecls.messages.numbers import percent
from edgecls.training.diagnosis.evidence import Evidence, Phase
from edgecls.training.diagnosis.finding import Problem
from edgecls.training.history import Divergence
from edgecls.training.phase_names import phase_name, trained_part

# Fewer layers have no chain of factors that could vanish or explode.
MIN_LAYERS = 3
# First against last layer. A chain of sigmoids loses a factor of 4 or more a layer (their slope is at most 0.25);
# networks of this package without a problem stay within a factor of 30 from layer to layer in either direction.
VANISHING_FACTOR = 1e-2
# Of log(gradient norm) with depth: the fall must be exponential, not caused by a single layer.
MIN_CORRELATION = 0.8
# The gradient of cross-entropy with respect to a score is at most sqrt(2); a layer multiplies it by its inputs, about 1
# to 30 in norm. A thousand is reached only through large weights.
EXPLODED_NORM = 1e3
# Gradients shrink while a network learns; a tenfold rise may be a hard batch, and growth to a small norm does no harm.
GROWTH_FACTOR, MIN_GROWN_NORM = 100.0, 10.0
# A Dense layer on flattened ReLU outputs may start with half its units dead (they all lean one way) and learn well.
DEAD_SHARE, ALL_DEAD_SHARE = 0.8, 0.99
_TINY = 1e-30  # replaces zero in logarithms


def check_finite(run: Evidence) -> Iterator[Problem]:
    """Yield where numbers stopped being finite."""
    if (found := run.divergence) is None:
        return
    what = f"{found.what} of layer {found.layer}" if found.layer and found.what != "loss" else found.what
    text = (
        f"In epoch {found.epoch}, step {found.step}, of training {trained_part(found.phase)} the {what} became NaN or "
        "infinite. Training stopped there; the best weights before it were kept."
    )
    remedy = "See exploding-gradients, its usual cause."
    if _diverged_untrained(found):
        text += " No step came before it, so the cause is the initial weights: a damaged file, or far too large values."
        remedy = "Check the weights file (--weights); a network trained from the start needs He initialization."
    yield "error", text, remedy


def _diverged_untrained(found: Divergence) -> bool:
    return found.epoch == 1 and found.step == 0 and found.what == "loss"


def check_vanishing(run: Evidence) -> Iterator[Problem]:
    """Compare the first layers with the last: gradients too, since Adam's updates hide their size until it is tiny."""
    for phase in run.phases:
        gradients, updates = phase.typical_layers("gradient_norm"), phase.typical_layers("update_ratio")
        # Behind a dead layer gradients are zero, whatever the depth.
        if len(gradients) < MIN_LAYERS or _dead_layers(phase):
            continue
        if max(_steepness(gradients), _steepness(updates)) < -np.log10(VANISHING_FACTOR):
            continue
        first, last = (phase.records[0].layers[index].name for index in (0, -1))
        yield (
            "error",
            f"The first layers of {trained_part(phase.name)} hardly learn, and it gets worse from layer to layer: "
            f"gradients of {gradients[0]:.1g} in {first} against {gradients[-1]:.1g} in {last}; a step changes them by "
            f"{updates[0]:.1g} and {updates[-1]:.1g} of their weights.",
            "ReLU instead of sigmoid or tanh, He initialization, --batch-norm, fewer layers (--filters, --hidden), "
            "or --clip-norm 1.",
        )


def _steepness(values: NDArray[np.float64]) -> float:
    """Return by how many powers of ten `values` grow from the first to the last layer, if exponentially; else 0."""
    logs, depth = np.log10(np.maximum(values, _TINY)), np.arange(len(values))
    if np.ptp(logs) == 0 or abs(np.corrcoef(depth, logs)[0, 1]) < MIN_CORRELATION:
        return 0.0
    return float(np.polyfit(depth, logs, 1)[0] * (len(logs) - 1))


def check_exploding(run: Evidence) -> Iterator[Problem]:
    """Yield where gradients grew too large, or where numbers stopped being finite after training had begun."""
    signs = {phase.name: list(_growth(phase)) for phase in run.phases}
    if (found := run.divergence) is not None and not _diverged_untrained(found):
        # Its first epoch may have ended before it was recorded.
        text = f"in epoch {found.epoch}, step {found.step}, numbers were no longer finite"
        signs.setdefault(phase_name(found.phase), []).append(text)
    for name, seen in signs.items():
        if seen:
            yield (
                "error",
                f"The gradients of {trained_part(name)} exploded: {'; '.join(seen)}.",
                f"--clip-norm 1, {run.lower_rate(name)}, He initialization, --batch-norm, or fewer layers "
                "(--filters, --hidden).",
            )


def _growth(phase: Phase) -> Iterator[str]:
    """Yield signs of gradients that are too large, grow with the epochs, or grow from the scores to the image."""
    values = phase.layers("gradient_norm")
    if not values.size:
        return
    norms, typical = np.linalg.norm(values, axis=1), phase.typical_layers("gradient_norm")
    top = int(norms.argmax())
    least = float(norms[: top + 1].min())
    if norms[top] > EXPLODED_NORM:
        yield f"the norm of all gradients was {norms[top]:.2g} in epoch {phase.records[top].epoch}"
    if norms[top] > max(GROWTH_FACTOR * least, MIN_GROWN_NORM):
        yield f"it grew from {least:.2g} to {norms[top]:.2g}"
    if len(typical) >= MIN_LAYERS and typical[0] > MIN_GROWN_NORM and _steepness(typical) < -np.log10(GROWTH_FACTOR):
        yield f"gradients grow from layer to layer towards the image, from {typical[-1]:.2g} to {typical[0]:.2g}"


def check_dead_relus(run: Evidence) -> Iterator[Problem]:
    """Yield the layers most of whose ReLUs are zero for every image at the end of a phase."""
    for phase in run.phases:
        if dead := _dead_layers(phase):
            yield (
                "error" if max(dead.values()) >= ALL_DEAD_SHARE else "warning",
                "Outputs that are zero for every image, and so learn nothing more: "
                f"{some(f'{name} ({percent(share, 0)})' for name, share in dead.items())}.",
                f"{run.lower_rate(phase.name)}, --clip-norm 1, --batch-norm, or He initialization; a layer "
                "that works with few live outputs may be made smaller (--filters, --hidden).",
            )


def _dead_layers(phase: Phase) -> dict[str, float]:
    shares = {layer.name: layer.dead_share for layer in phase.records[-1].layers if layer.dead_share is not None}
    return {name: share for name, share in shares.items() if share >= DEAD_SHARE}
