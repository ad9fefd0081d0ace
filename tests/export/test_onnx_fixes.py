from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgecls.export.onnx_fixes import name_by_place

# Prints the sha256 of a float and an int8 file, exported in the order of the arguments.
EXPORT = """
import hashlib, sys
import keras, numpy as np
from edgecls.config import TrainConfig
from edgecls.export import onnx
from edgecls.export.fuse import fuse
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights

keras.utils.set_random_seed(0)
config = TrainConfig(arch="cnn", image_size=16, filters=(4, 6), hidden=(8,))
fused = fuse(build_model(config, 3, Weights("none", None, None, "keras")), in_blocks=True)
images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), np.uint8)
for kind in sys.argv[1:]:
    data = onnx.to_fp32(fused) if kind == "fp32" else onnx.to_int8(fused, images)
    print(kind, hashlib.sha256(data).hexdigest())
"""


def test_a_network_gives_the_same_files_whenever_it_is_exported(tmp_path: Path) -> None:
    def export(hash_seed: str, *kinds: str) -> dict[str, str]:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-c", EXPORT, *kinds]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
        found = {tuple(line.split()) for line in done.stdout.splitlines()}
        assert len(found) == 2, "the second file of a kind is another one"
        return {kind: digest for kind, digest in found}

    assert export("1", "fp32", "int8", "fp32") == export("2", "int8", "fp32")


def test_names_are_those_of_the_place_and_the_graph_computes_the_same() -> None:
    def build(first: str, second: str, result: str) -> bytes:
        nodes = [
            helper.make_node("Add", ["x", first], [f"{result}:0"], result),
            helper.make_node("Mul", [f"{result}:0", second], ["y__3:0"], "layer/mul"),
            helper.make_node("Add", ["y__3:0", first], ["z__9"], "layer/add"),
        ]
        constants = [
            numpy_helper.from_array(np.array([value], np.float32), name)
            for name, value in sorted([(first, 2.0), (second, 3.0)])
        ]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "z__9")]
        graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants, doc_string=f"from {result}")
        name_by_place(graph)
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())

    data = build("a__1", "b__2", "Add__17")
    assert hashlib.sha256(build("d__8", "c__7", "Add__40")).digest() == hashlib.sha256(data).digest()
    session = onnxruntime.InferenceSession(data)
    assert session.run(None, {"x": np.array([4], np.float32)})[0] == (4 + 2) * 3 + 2
    # Names of layers stay.
    assert b"layer/mul" in data and b"__1" not in data


def test_numbered_nodes_of_one_layer_keep_names_of_their_own() -> None:
    rng, constants, nodes = np.random.default_rng(0), [], []
    for number in (1, 2):
        kernel, bias = f"const_fold__{number}", f"model/layer/bias{number}:0"
        constants += [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in ((kernel, (1, 1, 1, 1)), (bias, (1,)))
        ]
        nodes.append(helper.make_node("Conv", [f"x{number}", kernel, bias], [f"x{number + 1}"], f"Conv__{number}"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1]) for name in ("x1", "x3")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    image = np.ones((1, 1, 1, 1), np.float32)

    def run() -> np.ndarray:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        return np.asarray(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x1": image})[0])

    before = run()
    name_by_place(graph)
    assert [node.name for node in graph.node] == ["model/layer/Conv", "model/layer/Conv_1"]
    assert len({tensor.name for tensor in graph.initializer}) == 4
    np.testing.assert_array_equal(run(), before)
