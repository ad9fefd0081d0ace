from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
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
        np.testing.assert_array_equal(list(pool.map(graph.run, feeds)), expected)
