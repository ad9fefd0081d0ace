"""A phase whose classifier is solved at once (linear.py), in place of epochs; its record looks like one epoch."""

from __future__ import annotations

import dataclasses
import functools
import io
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.training.distributed.workers import ALONE, Workers
from edgecls.training.features.examples import FeatureExamples
from edgecls.training.features.frozen import FeatureExtractor
from edgecls.training.fit import FitResult
from edgecls.training.history import EpochRecord
from edgecls.training.linear import LinearFit, cross_entropy, fit_linear
from edgecls.training.recipe import Recipe
from edgecls.training.run.checkpoint import Checkpoint, Saved

if TYPE_CHECKING:
    import keras

SOLVED = "solved by L-BFGS"
# Of the classifier from which fine-tuning starts. The best one is sure of nearly all training images, and fine-tuning
# has nothing to learn from it: on magnetic tiles its training loss is 0.001 to 0.01, and this one's 0.1.
SOFT_L2 = 100.0
SCORED_TOGETHER = 1024  # images


def solve(
    classifier: keras.Model,
    train: FeatureExamples,
    val: FeatureExamples,
    recipe: Recipe,
    *,
    known: FeatureExtractor,
    checkpoint: Checkpoint | None = None,
    deadline: float | None = None,
    workers: Workers = ALONE,
) -> FitResult:
    """Solve the softmax Dense layer that `classifier` ends in, and return the result.

    Args:
        classifier: features -> scores, nothing between them but dropout; gets the solution if it is better.
        train: features to learn from.
        val: features that judge the solution.
        recipe: of the phase; its class weights, its seed and `start_counts` apply.
        known: its `l2` is the strength of the penalty, or None until a cross-validation has chosen it; its `soft`
            becomes the start of fine-tuning.
        checkpoint: where the solution is kept; None keeps none.
        deadline: `time.monotonic()` at which to stop with what is solved so far.
        workers: that train together; the first one solves for all.
    """
    began = time.monotonic()
    layer = classifier.layers[-1]
    kernel, bias = layer.get_weights()
    start = LinearFit(kernel, bias, l2=0.0)
    saved = _read(checkpoint)
    if saved is None and not workers.index:
        saved = _solve_both(train, layer.units, recipe, known.l2, deadline)
    saved = _share(saved, workers)
    if checkpoint is not None:
        checkpoint.write(saved.arrays, dict(saved.state))
    solution = LinearFit(saved.arrays["kernel"], saved.arrays["bias"], saved.state["l2"])
    result = _judge(start, solution, train, val, recipe, began)
    if result.best_epoch:
        layer.set_weights([solution.kernel, solution.bias])
    known.l2, known.soft = solution.l2, (saved.arrays["soft_kernel"], saved.arrays["soft_bias"])
    return result


def _solve_both(
    train: FeatureExamples, classes: int, recipe: Recipe, l2: float | None, deadline: float | None
) -> Saved:
    """Return the classifier with the penalty `l2`, or the best one if it is None, and the soft one."""
    solve_linear = functools.partial(
        fit_linear,
        train.copies,
        train.labels,
        classes,
        class_weights=recipe.class_weights,
        seed=recipe.seed,
        deadline=deadline,
    )
    found, soft = solve_linear(l2=l2), solve_linear(l2=SOFT_L2)
    arrays = {"kernel": found.kernel, "bias": found.bias, "soft_kernel": soft.kernel, "soft_bias": soft.bias}
    return Saved(arrays, {"l2": found.l2})


def _share(saved: Saved | None, workers: Workers) -> Saved:
    """Return the solution of the first worker, as its last bits depend on the processor."""
    if workers.count > 1:
        saved = Saved.read(io.BytesIO(workers.broadcast(saved.to_bytes() if saved else b"")))
    assert saved is not None, "the first worker has solved it"
    return saved


def _read(checkpoint: Checkpoint | None) -> Saved | None:
    """Return the kept solution, or None if there is none.

    Raises:
        TrainingError: the file is damaged, or holds something else.
    """
    saved = checkpoint.read() if checkpoint is not None else None
    if (
        saved is not None
        and checkpoint is not None
        and not {"kernel", "bias", "soft_kernel", "soft_bias"} == set(saved.arrays)
    ):
        raise checkpoint.refuse("it holds no solution")
    return saved


def _judge(
    start: LinearFit, solution: LinearFit, train: FeatureExamples, val: FeatureExamples, recipe: Recipe, began: float
) -> FitResult:
    """Return the result: one epoch, which is the best if the validation loss fell or the start does not count."""
    before, after, learned = (_measure(fit, part) for fit, part in ((start, val), (solution, val), (solution, train)))
    better = after.loss < before.loss or not recipe.start_counts
    record = EpochRecord(
        phase=recipe.phase,
        epoch=1,
        train_loss=learned.loss,
        train_accuracy=learned.accuracy,
        val_loss=after.loss,
        val_accuracy=after.accuracy,
        learning_rate=0.0,
        largest_step_loss=learned.loss,
        seconds=round(time.monotonic() - began, 3),
    )
    return FitResult(
        history=(record,),
        best_epoch=int(better),
        best_loss=after.loss if better else before.loss,
        best_accuracy=after.accuracy if better else before.accuracy,
        start_accuracy=before.accuracy,
        divergence=None,
        ended=SOLVED,
    )


@dataclasses.dataclass(frozen=True)
class _Measured:
    loss: float
    accuracy: float


def _measure(fit: LinearFit, examples: FeatureExamples) -> _Measured:
    """Return mean cross-entropy and accuracy of the images themselves, without their augmented copies."""
    every = np.arange(len(examples.labels))
    parts: list[NDArray[np.float32]] = [
        fit.predict(examples.copies[0].take(chosen))
        for chosen in np.array_split(every, -(-len(every) // SCORED_TOGETHER))
    ]
    scores = np.concatenate(parts)
    return _Measured(
        cross_entropy(scores, examples.labels), float(np.mean(scores.argmax(1) == examples.labels, dtype=np.float64))
    )


def score_copies(classifier: keras.Model, examples: FeatureExamples) -> NDArray[np.float32]:
    """Return the classifier's scores, float32 (1 + copies, N, C), of every copy of every image."""
    every = np.arange(len(examples.labels))
    parts = np.array_split(every, max(1, len(every) // SCORED_TOGETHER))
    scores = np.zeros((len(examples.copies), len(every), classifier.output.shape[-1]), np.float32)
    for number, features in enumerate(examples.copies):
        for chosen in parts:
            scores[number, chosen] = classifier(features.take(chosen).astype(np.float32), training=False)
    return scores
