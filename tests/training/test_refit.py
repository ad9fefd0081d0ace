"""The classifier learns from the validation images at the end of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from training_run import SIZE, Run, keras_scores, make_images, run_train

from edgecls.config import TrainConfig
from edgecls.networks.model import FEATURES_LAYER
from edgecls.networks.split_layer import split_at
from edgecls.training.linear import fit_linear
from edgecls.training.run.run_folder import load_model, read_held_out_scores, read_validation_scores

# What becomes of features does not depend on how many layers gave them.
CONFIG = TrainConfig(image_size=SIZE, alpha=0.35, blocks=3, weights="none", effort="quick", augment=None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("refit") / "images")


@pytest.fixture(scope="module")
def refitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_train(data, tmp_path_factory.mktemp("refit") / "run", CONFIG)


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_train(data, tmp_path_factory.mktemp("plain") / "run", dataclasses.replace(CONFIG, refit=False))


def test_the_classifier_is_the_solution_for_both_parts(refitted: Run) -> None:
    train, val, model = refitted.load_split("train"), refitted.load_split("val"), load_model(refitted.out)
    extractor, _ = split_at(model, FEATURES_LAYER)
    learned, unseen = (
        extractor.predict(part.images, verbose=0).astype(np.float16).astype(np.float32) for part in (train, val)
    )
    strength = fit_linear([learned], train.labels, 3).l2
    labels = np.concatenate([train.labels, val.labels])
    expected = fit_linear([np.concatenate([learned, unseen])], labels, 3, l2=strength)
    kernel, bias = model.layers[-1].get_weights()
    # The engine that computed the features rounds differently.
    np.testing.assert_allclose(kernel, expected.kernel, atol=0.01 * np.abs(kernel).max())
    np.testing.assert_allclose(bias, expected.bias, atol=0.05)
    assert refitted.record["refit_images"] == len(labels)


def test_what_is_said_of_the_validation_images_is_of_a_classifier_that_did_not_see_them(
    refitted: Run, plain: Run
) -> None:
    val = refitted.load_split("val")
    unseen = keras_scores(load_model(plain.out), val.images)
    found = read_validation_scores(refitted.out, len(val.labels), 3)
    np.testing.assert_allclose(found, unseen, atol=1e-3)
    after = keras_scores(load_model(refitted.out), val.images)[np.arange(len(found)), val.labels]
    assert (after > found[np.arange(len(found)), val.labels]).all()
    assert refitted.record["metrics"]["val_accuracy"] == plain.record["metrics"]["val_accuracy"]


def test_the_test_images_are_scored_by_the_last_classifier(refitted: Run) -> None:
    test = refitted.load_split("test")
    found = read_held_out_scores(refitted.out, len(test.labels), 3)
    np.testing.assert_allclose(found, keras_scores(load_model(refitted.out), test.images), atol=1e-3)


def test_a_classifier_that_must_not_or_cannot_be_solved_again_stays(plain: Run, data: Path, tmp_path: Path) -> None:
    in_steps = run_train(data, tmp_path / "steps", dataclasses.replace(CONFIG, solver="sgd", epochs=1))
    for seed, part in enumerate(("train", "val")):
        make_images(tmp_path / "parts" / part, seed)
    without_test = run_train(tmp_path / "parts", tmp_path / "without-test", CONFIG)
    for run in (plain, in_steps, without_test):
        assert run.record["refit_images"] == 0 and not (run.out / "validation-scores.npy").exists()
