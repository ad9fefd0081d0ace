"""One training step against the same by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from one_step import POINTS, make, step, weights_of
from points import CLASSES, blobs, network

from edgecls.config import TrainConfig
from edgecls.networks.model import build_mobilenet_v2
from edgecls.networks.split_layer import block_before, learn_above, split_at
from edgecls.networks.weights import Weights

# The loss


def test_the_loss_is_the_mean_cross_entropy_and_the_correct_answers_are_counted() -> None:
    model = network(8)
    scores = model(POINTS.x).numpy()
    losses = -np.log(scores[np.arange(24), POINTS.labels])
    right = (scores.argmax(1) == POINTS.labels).sum()
    net = make(model)
    assert net.test_step(POINTS.x, POINTS.labels) == pytest.approx((losses.sum(), right), rel=1e-5)
    out = step(net)
    assert (out.loss, out.correct) == pytest.approx((losses.mean(), right), rel=1e-5)


def test_label_smoothing_and_class_weights_are_those_of_keras() -> None:
    model = network(8)
    scores = model(POINTS.x)
    weights = np.array([0.5, 1.0, 3.0])
    smooth = keras.losses.CategoricalCrossentropy(label_smoothing=0.2, reduction=None)
    losses = smooth(keras.ops.one_hot(POINTS.labels, CLASSES), scores).numpy() * weights[POINTS.labels]
    net = make(model, label_smoothing=0.2, class_weights=tuple(weights))
    assert step(net).loss == pytest.approx(losses.mean(), rel=1e-5)
    # Validation judges the answers, not the recipe.
    plain = -np.log(model(POINTS.x).numpy()[np.arange(24), POINTS.labels]).sum()
    assert net.test_step(POINTS.x, POINTS.labels)[0] == pytest.approx(plain, rel=1e-5)


def test_l2_adds_the_squares_of_kernels_alone() -> None:
    models = [network(8), network(8)]
    for layer in (*models[0].layers[1:], *models[1].layers[1:]):
        layer.bias.assign(np.full(layer.bias.shape, 0.5))
    squares = sum((layer.kernel.numpy() ** 2).sum() for layer in models[0].layers[1:])
    plain, with_l2 = step(make(models[0])).loss, step(make(models[1], l2=0.1)).loss
    assert with_l2 - plain == pytest.approx(0.1 * squares, rel=1e-4)


def test_a_confident_mistake_keeps_its_gradient() -> None:
    model = network()
    kernel = np.zeros((4, CLASSES), np.float32)
    kernel[0] = (100, 0, 0)
    model.layers[-1].set_weights([kernel, np.zeros(CLASSES)])
    x = np.array([[1, 0, 0, 0]], np.float32)
    # The softmax score of the true class is 0 in float32.
    assert model(x).numpy()[0, 1] == 0
    out = make(model).train_step(x, np.array([1]), watch=True)
    assert out.loss == pytest.approx(100) and out.gradients[0] > 1


# What is noted


def test_gradients_and_updates_are_noted_for_each_layer() -> None:
    model = network(8, 5)
    with tf.GradientTape() as tape:
        scores = model(POINTS.x)
        loss = -tf.reduce_mean(tf.math.log(tf.gather(scores, POINTS.labels, batch_dims=1)))
    gradients = tape.gradient(loss, model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    net = make(model)
    out = step(net)
    assert net.layer_names == ["hidden_1", "hidden_2", "scores"]
    expected = [np.sqrt(sum((np.asarray(part) ** 2).sum() for part in gradients[i : i + 2])) for i in (0, 2, 4)]
    np.testing.assert_allclose(out.gradients, expected, rtol=1e-4)
    changes = [new.numpy() - old for new, old in zip(model.trainable_variables, before, strict=True)]
    ratios = [
        np.linalg.norm(np.concatenate([part.ravel() for part in changes[i : i + 2]]))
        / np.linalg.norm(np.concatenate([part.ravel() for part in before[i : i + 2]]))
        for i in (0, 2, 4)
    ]
    assert out.updates is not None
    np.testing.assert_allclose(out.updates, ratios, rtol=1e-3)


def test_watching_changes_nothing_but_what_is_returned() -> None:
    models = [network(8, dropout=0.5), network(8, dropout=0.5)]
    outs = [
        make(model).train_step(POINTS.x, POINTS.labels, watch=watch)
        for model, watch in zip(models, (True, False), strict=True)
    ]
    assert outs[1].updates is None and outs[0].loss == outs[1].loss
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_step_does_not_depend_on_the_sizes_of_the_batches_before_it() -> None:
    wide = blobs(32)
    models = [network(16), network(16)]
    nets = [make(model, learning_rate=0.0) for model in models]
    for size in (32, 5, 17):
        nets[0].train_step(wide.x[:size], wide.labels[:size], watch=False)
        nets[0].test_step(wide.x[:size], wide.labels[:size])
    for name, array in nets[1].arrays().items():
        if name.startswith("optimizer"):
            array[...] = 0
    nets[0].restore(nets[1].arrays())
    for net in nets:
        net.learning_rate = 0.01
        step(net, wide)
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)


def test_float16_inputs_are_learned_from_as_float32() -> None:
    net = make()
    half = POINTS.x.astype(np.float16)
    loss = net.test_step(half, POINTS.labels)[0]
    assert loss == net.test_step(half.astype(np.float32), POINTS.labels)[0]


@pytest.fixture(scope="module")
def mobilenet() -> keras.Model:
    return build_mobilenet_v2(TrainConfig(image_size=32, alpha=0.35), CLASSES, Weights("none", None, None, "keras"))


# What learns


def test_only_what_may_learn_changes(mobilenet: keras.Model) -> None:
    cut = block_before(mobilenet, 1)
    learn_above(mobilenet, cut)
    learner = split_at(mobilenet, cut)[1]
    before = weights_of(mobilenet)
    net = make(learner)
    random = np.random.default_rng(0).normal(size=(24, *learner.input.shape[1:])).astype(np.float32)
    net.train_step(random, POINTS.labels, watch=False)
    changed = {path for path, value in weights_of(mobilenet).items() if (value != before[path]).any()}
    assert {path.split("/")[0] for path in changed} == set(net.layer_names)
    assert net.layer_names == ["block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1", "scores"]


def test_normalization_in_the_head_learns_its_statistics() -> None:
    model = network(8, batch_norm=True)
    before = weights_of(model)
    step(make(model))
    changed = {path for path, value in weights_of(model).items() if (value != before[path]).any()}
    assert {"batch_norm/moving_mean", "batch_norm/moving_variance", "batch_norm/gamma"} <= changed


def test_clipping_bounds_the_step_and_not_what_is_noted() -> None:
    nets = [make(clip_norm=clip_norm) for clip_norm in (0.0, 1e-7)]
    plain, clipped = (step(net) for net in nets)
    np.testing.assert_allclose(plain.gradients, clipped.gradients, rtol=1e-5)
    # Adam divides by the gradients' size, but 1e-7 is no longer large against its epsilon.
    assert plain.updates is not None and clipped.updates is not None
    assert (clipped.updates < 0.7 * plain.updates).all()


def test_weight_decay_shrinks_kernels_and_leaves_biases() -> None:
    models = [network(8), network(8)]
    for model in models:
        model.get_layer("hidden_1").bias.assign(np.ones(8))
    for model, decay in zip(models, (0.0, 0.5), strict=True):
        step(make(model, weight_decay=decay, learning_rate=0.1))
    for name in ("hidden_1", "scores"):
        plain, decayed = (model.get_layer(name) for model in models)
        assert np.linalg.norm(decayed.kernel) < 0.97 * np.linalg.norm(plain.kernel)
        np.testing.assert_allclose(decayed.bias, plain.bias, atol=1e-6)


# What is kept


def test_the_best_weights_come_back() -> None:
    model = network(8, dropout=0.5, batch_norm=True)
    net = make(model)
    step(net)
    net.remember_best()
    best = model.get_weights()
    step(net)
    assert any((now != then).any() for now, then in zip(model.get_weights(), best, strict=True))
    net.recall_best()
    for now, then in zip(model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_restored_network_goes_on_to_the_same_bit(decay: float) -> None:
    models = [network(8, dropout=0.5, batch_norm=True) for _ in range(2)]
    first = make(models[0], weight_decay=decay)
    step(first)
    first.remember_best()
    step(first)
    second = make(models[1], weight_decay=decay)
    second.restore({name: array.copy() for name, array in first.arrays().items()})
    assert second.learning_rate == first.learning_rate
    for net in (first, second):
        step(net)
    for one, other in zip(first.arrays().values(), second.arrays().values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_saved_is_a_copy() -> None:
    net = make()
    arrays = net.arrays()
    kept = {name: array.copy() for name, array in arrays.items()}
    step(net)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, kept[name])
    assert any((net.arrays()[name] != array).any() for name, array in kept.items())


def test_the_learning_rate_can_be_set() -> None:
    net = make()
    net.learning_rate = 0.125
    assert net.learning_rate == 0.125
