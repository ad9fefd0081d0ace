"""A batch shared by several devices: two logical CPUs stand for two GPUs, which only a fresh process can set up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import dataclasses
import numpy as np
from one_step import POINTS, RECIPE, network
from edgecls.training import step

answers = []
for options in json.loads(sys.argv[1]):
    dropout = options.pop("dropout", 0)
    for devices in ([], ["CPU:0", "CPU:1"]):
        step._devices = lambda layers: devices
        net = step.TrainableNetwork(network(8, dropout=dropout), dataclasses.replace(RECIPE, **options))
        outs = [net.train_step(POINTS.x[:count], POINTS.labels[:count], watch=True) for count in (24, 7, 1)]
        tests = [net.test_step(POINTS.x[:count], POINTS.labels[:count]) for count in (24, 1)]
        placed = {op.device[-5:] for op in net._train_steps[True].get_concrete_function().graph.get_operations()}
        weights = [variable.numpy().ravel().tolist() for variable in net._variables]
        answers.append([[(out.loss, out.correct) for out in outs] + tests, sum(weights, []), sorted(placed)])
print(json.dumps(answers))
"""
OPTIONS = [{"dropout": 0.4}, {"l2": 0.1, "label_smoothing": 0.2, "clip_norm": 0.5}]


def test_two_devices_learn_what_one_does() -> None:
    command = [sys.executable, "-c", SCRIPT, json.dumps(OPTIONS)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1] / "support"
    )
    answers = json.loads(done.stdout)
    assert len(answers) == 2 * len(OPTIONS)
    for one, two in zip(answers[::2], answers[1::2], strict=True):
        for alone, shared in zip(one[0] + [one[1]], two[0] + [two[1]], strict=True):
            assert shared == pytest.approx(alone, rel=1e-4, abs=1e-6)
        assert not {"CPU:0", "CPU:1"} & set(one[2]) and {"CPU:0", "CPU:1"} <= set(two[2])
