"""What the outputs of a model are, scores, logits or what another loss taught it, and the scores made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.errors import DataError, ModelFileError
from edgecls.imported.assignment import assign
from edgecls.imported.graph import LayerCall, LayerGraph
from edgecls.imported.scaling import Predict, Scaling
from edgecls.networks.imported import BOTH_CLASSES

if TYPE_CHECKING:
    import keras

# Layers that only change the shape of scores; whose result is scores too if all that they read is; and whose result is
# then neither scores nor logits.
SHAPING = ("Flatten", "Reshape")
_AVERAGING = (*SHAPING, "Average", "AveragePooling2D", "Concatenate", "GlobalAveragePooling2D")
_MIXING = ("Add", "GlobalMaxPooling2D", "MaxPooling2D", "Maximum", "Minimum", "Multiply", "Rescaling", "Subtract")
# Layers whose output is no logit.
_RECTIFYING = ("ReLU", "LeakyReLU", "PReLU", "ELU")
# What outputs without an activation are after the training with a loss: logits, numbers near the targets (0 and 1, or
# -1 and 1), probabilities if they are between 0 and 1, or numbers of which only the sign or the order counts.
LOGITS, VALUES, PROBABILITIES, MARGINS = "logits", "values", "probabilities", "margins"
_CROSSENTROPY = "crossentropy"
_LOSSES = {
    VALUES: "meansquarederror mse meanabsoluteerror mae huber huberloss logcosh meansquaredlogarithmicerror msle "
    "meanabsolutepercentageerror mape poisson kldivergence kld kullbackleiblerdivergence".split(),
    MARGINS: "hinge squaredhinge categoricalhinge cosinesimilarity".split(),
}
# Gain and threshold: the logit of one output that stands for two classes is gain * (output - threshold). With 4 the
# score rises at the threshold as the output does, and with 2.2 it is 0.9 at the margin 1.
_LOGIT = {VALUES: (4.0, 0.5), PROBABILITIES: (4.0, 0.5), MARGINS: (2.2, 0.0)}
# Outputs are near their targets if these explain so much of the variance; logits are further off than a constant.
NEAR = 0.3
LEAST_SCORE = 1e-30


@dataclass(frozen=True)
class Loss:
    """The loss that a model was compiled with.

    Attributes:
        name: as its file has it; "" if it names none, or several.
        kind: LOGITS, VALUES, PROBABILITIES or MARGINS; "" if it is not known.
        smoothing: the part of each target that goes to all classes alike, 0..1 (label smoothing).
    """

    name: str = ""
    kind: str = ""
    smoothing: float = 0.0

    @property
    def logit(self) -> tuple[float, float]:
        """Gain and threshold of one output."""
        return _LOGIT.get(self.kind, (1.0, 0.0))


UNKNOWN = Loss()


def read_loss(training: dict[str, Any]) -> Loss:
    """Return the loss in a configuration of `model.compile`."""
    raw, settings = training.get("loss"), None
    if isinstance(raw, dict) and "class_name" not in raw:
        raw = list(raw.values())
    if isinstance(raw, list):
        raw = raw[0] if len(raw) == 1 else None
    if isinstance(raw, dict):
        settings = raw.get("config")
        raw = settings if raw.get("class_name") == "function" else raw.get("class_name")
    if not isinstance(raw, str):
        return UNKNOWN
    short = raw.lower().replace("_", "")
    if _CROSSENTROPY in short:
        given = settings if isinstance(settings, dict) else {}
        smoothing = given.get("label_smoothing")
        part = float(smoothing) if isinstance(smoothing, (int, float)) and 0 <= smoothing <= 1 else 0.0
        return Loss(raw, LOGITS if given.get("from_logits") else PROBABILITIES, part)
    return Loss(raw, next((kind for kind, names in _LOSSES.items() if short in names), ""))


def make_scores(graph: LayerGraph, values: dict[str, keras.KerasTensor], loss: Loss) -> keras.KerasTensor:
    """Return scores (N, C): softmax of logits, and of 0 and the logit where one output stands for two classes.

    Args:
        graph: the model.
        values: the outputs of its nodes.
        loss: that it was trained with.

    Raises:
        ModelFileError: the output cannot become scores.
    """
    from keras import layers

    output, last = values[graph.output], _last(graph)
    if len(output.shape) > 2:
        output = layers.Flatten(name="flat_scores")(output)
    activation = _activation(last)
    count = output.shape[-1]
    known = ("softmax", "sigmoid", *(["tanh"] if count == 1 else []))
    if (last.kind == "Activation" and activation not in known) or last.kind in _RECTIFYING:
        raise ModelFileError(
            f"its last layer {last.name!r} is {activation or last.kind}, which gives no scores; it must be softmax, "
            "sigmoid or none (logits)"
        )
    if not activation and _gives_scores(graph, last, count):
        return output
    if count == 1 and activation == "softmax":
        raise ModelFileError("its last layer is a softmax of one output, which is always 1; use a sigmoid")
    if count == 1:
        logit = values[last.inputs[0]] if activation else output
        both = layers.Dense(2, name=BOTH_CLASSES)
        output = both(logit if len(logit.shape) == 2 else layers.Flatten(name="flat_logit")(logit))
        # (1 + tanh(x)) / 2 is the sigmoid of 2 x.
        gain, threshold = (2.0 if activation == "tanh" else 1.0, 0.0) if activation else loss.logit
        both.set_weights([np.array([[0.0, gain]]), np.array([0.0, -gain * threshold])])
        activation = ""
    return output if activation else layers.Activation("softmax", name="scores")(output)


def _last(graph: LayerGraph) -> LayerCall:
    """Return the last node that does more than change the shape of the scores."""
    nodes = {node.name: node for node in graph.nodes}
    last = nodes[graph.output]
    while last.kind in SHAPING and last.inputs[0]:
        last = nodes[last.inputs[0]]
    return last


def _activation(node: LayerCall) -> str:
    return "softmax" if node.kind == "Softmax" else str(node.settings.get("activation", ""))


def _gives_scores(graph: LayerGraph, last: LayerCall, count: int) -> bool:
    """Return True if the last node gives scores, 0..1, as an average of softmaxes, and False if it gives logits.

    Raises:
        ModelFileError: it computes something else of scores, or one score for two classes.
    """
    found: dict[str, bool | None] = {"": False}  # None for something else
    for node in graph.nodes:
        read = [found[name] for name in node.inputs]
        is_neutral = node.kind == "Rescaling" and (node.settings.get("scale"), node.settings.get("offset", 0)) == (1, 0)
        found[node.name] = _activation(node) in ("softmax", "sigmoid")
        if node.kind in _AVERAGING or is_neutral:
            found[node.name] = None if None in read else all(read)
        elif node.kind in _MIXING and False not in read:
            found[node.name] = None
    gives = found[last.name]
    if gives is None or (gives and count == 1):
        raise ModelFileError(
            f"layer {last.name!r} ({last.kind}) computes the result of scores, which cannot be imported; save the "
            "model with a softmax, a sigmoid or nothing (logits) at its end"
        )
    return gives


def ends_linearly(graph: LayerGraph) -> bool:
    """Return True if the model ends without an activation."""
    return not _activation(_last(graph))


def describe_outputs(graph: LayerGraph, count: int, loss: Loss) -> str:
    """Return why the scores made of `count` outputs are no probabilities of the classes, as a sentence, or ""."""
    last = _last(graph)
    if _activation(last) == "sigmoid" and count > 1:
        return (
            f"its {count} outputs are sigmoids, as for images that may be of several classes; edgecls gives the one "
            "class of the highest score, and the scores do not add up to 1"
        )
    if _activation(last) or loss.kind not in _LOGIT or _gives_scores(graph, last, count):
        return ""
    label = "that of the highest output"
    if count == 1:
        label = f"the second class where the output is above {loss.logit[1]:g}"
    return (
        f"it was trained with the loss {loss.name} and ends without an activation, so its outputs are no logits. The "
        f"label is {label}; the scores are no probabilities. For those, train it with a softmax or a sigmoid, and a "
        "crossentropy"
    )


def limit_scores(scores: NDArray[np.float32], loss: Loss) -> NDArray[np.float32]:
    """Return the scores, float32 (N, C), at most as large as the targets: larger ones are no better."""
    return np.minimum(scores, np.float32(1 - loss.smoothing * (1 - 1 / scores.shape[1])))


def judge_values(
    predict: Predict,
    scalings: Sequence[Scaling],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    loss: Loss,
    is_one: bool,
) -> Predict:
    """Return `predict` for the choice of the scaling of a model that ends without an activation.

    Outputs that were trained to be near their targets get scores that are low far from all targets: those of logits
    would be the higher, the larger the scale is.

    Args:
        predict: the model.
        scalings: to try.
        images: a few, uint8 (N, S, S, 1), 0..255.
        labels: int64 (N,).
        loss: that the model was compiled with.
        is_one: True for one output that stands for two classes.

    Raises:
        DataError: the images show other targets than the loss.
    """
    if loss.kind not in ("", VALUES):
        return predict

    def explain(low: int) -> float:
        found = (_near_targets(predict(images, scaling), loss, is_one, low) for scaling in scalings)
        return max(_explained(scores, labels) for scores in found)

    fits = {low: explain(low) for low in (0, -1)}
    low = 0 if fits[0] >= fits[-1] else -1
    is_near = fits[low] > NEAR
    if is_one and is_near and (low == -1) == (loss.kind == VALUES):
        raise DataError(_describe_targets(low, loss))
    if not loss.kind and (is_one or not is_near):
        return predict
    return lambda pixels, scaling: _near_targets(predict(pixels, scaling), loss, is_one, low)


def _describe_targets(low: int, loss: Loss) -> str:
    named = f"its loss {loss.name}" if loss.name else "its file, which names no loss,"
    return (
        f"the output is near {low} for images of one class and near 1 for the other, so {(low + 1) / 2:g} divides "
        f'them, and {named} does not say so. Run model.compile(loss="{"hinge" if low else "mse"}") and save it again'
    )


def _near_targets(scores: NDArray[np.float32], loss: Loss, is_one: bool, low: int) -> NDArray[np.float32]:
    """Return exp(-d) for each image and class, float32 (N, C).

    d is the squared distance of the outputs from the targets of the class, 1 for it and `low` for the others, in units
    of the distance between these two.

    Args:
        scores: as `make_scores` makes them.
        loss: that the model was compiled with.
        is_one: True for one output that stands for two classes.
        low: 0 or -1.
    """
    # The outputs less their mean.
    outputs = np.log(np.maximum(scores, LEAST_SCORE, dtype=np.float64))
    outputs -= outputs.mean(1, keepdims=True)
    if is_one:
        gain, threshold = loss.logit
        outputs = 2 / gain * outputs + (threshold - (1 + low) / 2) * np.array([-1, 1])
    outputs /= 1 - low
    rest = 1 - 1 / scores.shape[1]
    return np.asarray(np.exp(-((outputs**2).sum(1, keepdims=True) - 2 * outputs + rest)), np.float32)


def _explained(near: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the part of the variance of the targets that the outputs explain, at most 1; `near` of `_near_targets`."""
    own = near[np.arange(len(labels)), assign(near, labels)[labels]]
    frequency = np.bincount(labels, minlength=near.shape[1]) / len(labels)
    return float(1 + np.log(np.maximum(own, LEAST_SCORE)).mean() / max(1 - (frequency**2).sum(), LEAST_SCORE))
