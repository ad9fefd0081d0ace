"""Adapts an imported network to the pixel path of edgecls: its BatchNorm statistics and its classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.images.dataset import Dataset
from edgecls.messages.numbers import percent
from edgecls.networks.imported import BOTH_CLASSES
from edgecls.progress import Progress
from edgecls.training.linear import fit_linear

if TYPE_CHECKING:
    import keras

NORMS = "BatchNorm statistics"
CLASSIFIER = "classifier"
BATCH_SIZE = 32
# Larger features, as of a Flatten of a large feature map, are too many to solve a classifier on.
MOST_FEATURE_BYTES = 2**30


@dataclass(frozen=True)
class Refit:
    """What was adapted.

    Attributes:
        changed: NORMS, CLASSIFIER, both, or none if nothing improved the validation accuracy.
        before: validation accuracy of the model as it was, 0..1.
        after: validation accuracy of the network that was kept, 0..1.
    """

    changed: tuple[str, ...]
    before: float
    after: float

    def to_json(self) -> dict[str, Any]:
        """Return `refit` of run.json."""
        return asdict(self) | {"text": self.describe()}

    def describe(self) -> str:
        """Return the result as text."""
        before, after = (percent(accuracy, 2) for accuracy in (self.before, self.after))
        if not self.changed:
            return f"no gain, so the model is unchanged: validation accuracy {before}"
        return f"{' and '.join(self.changed)} adapted: validation accuracy {before}, now {after}"


def refit(network: keras.Model, dataset: Dataset, progress: Progress) -> Refit:
    """Adapt `network` to the training images of `dataset` as edgecls reads them, if the validation images improve.

    Three ways are tried: the last dense layer is solved again (multinomial logistic regression), the mean and variance
    of each BatchNorm are measured again, or both. The way with the best validation accuracy is kept.

    Args:
        network: of `build.build_network`; gets the weights that are kept.
        dataset: images, with labels that count the outputs of `network`.
        progress: called at each stage.
    """
    tried: list[tuple[tuple[str, ...], float, list[Any]]] = [((), _judge(network, dataset), network.get_weights())]

    def add(*changed: str) -> None:
        tried.append((changed, _judge(network, dataset), network.get_weights()))
        progress("refit", len(tried) - 1, 3)

    if _solve_classifier(network, dataset):
        add(CLASSIFIER)
        network.set_weights(tried[0][2])
    if _measure_norms(network, dataset.train.images):
        add(NORMS)
        if _solve_classifier(network, dataset):
            add(NORMS, CLASSIFIER)
    progress("refit", 3, 3)
    # Of equal accuracies the first, which changes least.
    changed, accuracy, weights = max(tried, key=lambda way: way[1])
    network.set_weights(weights)
    return Refit(changed, tried[0][1], accuracy)


def _judge(network: keras.Model, dataset: Dataset) -> float:
    """Return the accuracy on the validation images, 0..1."""
    scores = network.predict(dataset.val.images, batch_size=BATCH_SIZE, verbose=0)
    return float((scores.argmax(1) == dataset.val.labels).mean())


def _measure_norms(network: keras.Model, images: NDArray[np.uint8]) -> bool:
    """Give each BatchNorm the mean and variance of its input on `images`; return False if there is none."""
    import keras

    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # A batch that is not full would weigh as much as the others.
    count = max(1, len(images) // BATCH_SIZE)
    momenta = [norm.momentum for norm in norms]
    order = np.random.default_rng(0).permutation(len(images))
    for number in range(count if norms else 0):
        for norm in norms:
            # The mean over all batches so far.
            norm.momentum = number / (number + 1)
        network(images[np.sort(order[number * BATCH_SIZE : (number + 1) * BATCH_SIZE])], training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return bool(norms)


def _solve_classifier(network: keras.Model, dataset: Dataset) -> bool:
    """Solve the last dense layer on the training images; return False if there is none, or its input is too large."""
    import keras

    layer = _find_classifier(network)
    if layer is None or len(dataset.train.images) * layer.kernel.shape[0] * 4 > MOST_FEATURE_BYTES:
        return False
    extractor = keras.Model(network.input, layer.input)
    features = extractor.predict(dataset.train.images, batch_size=BATCH_SIZE, verbose=0)
    # Its features may come from several parts of a network, each with a scale of its own.
    found = fit_linear([features], dataset.train.labels, len(dataset.classes), least_deviation=0.0)
    kernel, bias = found.kernel, found.bias
    if layer.units == 1:
        kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
        # What was solved is a logit, whatever the output of the model was.
        network.get_layer(BOTH_CLASSES).set_weights([np.array([[0.0, 1.0]]), np.zeros(2)])
    layer.set_weights([kernel, bias])
    return True


def _find_classifier(network: keras.Model) -> Any:
    """Return the dense layer whose outputs are the logits of a softmax or sigmoid, or None."""
    import keras

    layers = [layer for layer in network.layers if layer.weights and layer.name != BOTH_CLASSES]
    last = layers[-1] if layers else None
    is_dense = isinstance(last, keras.layers.Dense) and last.use_bias and len(last.input.shape) == 2
    return last if is_dense else None
