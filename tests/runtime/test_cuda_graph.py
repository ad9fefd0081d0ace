from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from tiny import HEIGHT, WIDTH

from edgecls.model_file.read import read_model_file
from edgecls.runtime.cuda_graph import CudaGraph


def test_each_image_gets_its_own_scores_from_any_thread(tiny_onnx: Path) -> None:
    """No GPU is here, so the buffers lie on the CPU; benchmarks/gpu.py compares the recording on a GPU."""
    session = onnxruntime.InferenceSession(read_model_file(tiny_onnx).graph, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    images = np.random.default_rng(0).integers(0, 256, (40, 1, HEIGHT, WIDTH, 1), np.uint8)
    feeds = [image.reshape(source.shape).astype(np.uint8) for image in images]
    expected = [session.run(None, {source.name: feed})[0] for feed in feeds]
    assert len(np.unique(np.concatenate(expected), axis=0)) > 1
    graph = CudaGraph(session, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal([outputs[0] for outputs in pool.map(graph.run, feeds)], expected)


def test_a_second_output_is_returned_where_it_is_asked_for(tiny_onnx: Path) -> None:
    network = onnx.load_from_string(read_model_file(tiny_onnx).graph)
    scores = network.graph.output[0]
    twice = onnx.helper.make_node("Add", [scores.name, scores.name], ["twice"])
    network.graph.node.append(twice)
    network.graph.output.append(onnx.helper.make_tensor_value_info("twice", onnx.TensorProto.FLOAT, (1, 3)))
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.full([1 if not isinstance(size, int) else size for size in session.get_inputs()[0].shape], 9, np.uint8)
    graph = CudaGraph(session, device="cpu")
    first, second = graph.run(image, 2)
    np.testing.assert_array_equal(second, 2 * first)
    assert len(graph.run(image)) == 1
