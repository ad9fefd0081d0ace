from __future__ import annotations

from typing import Any

import smallest


def row(seed: int, ratios: tuple[float, float, float], causes: tuple[str, ...] = ()) -> dict[str, Any]:
    of_engine = {"ratio_low": 2.9, "ratio_high": 3.3, "valid": not causes, "causes": list(causes)}
    sizes = {"default_bytes": 2_700_000, "recommended_bytes": 900_000}
    file = {"default_accuracy": 0.969, "accuracy": 0.983, "mcnemar_p": 0.125, "agreement": 0.98, "images": 352}
    return {
        "seed": seed,
        "image_size": 128,
        "blocks": 14,
        "search_s": 480 + seed,
        "default_training_s": 130,
        "files": {"tflite": file, "onnx": {**file, "accuracy": 0.98}},
        "engines": [
            {"engine": engine, "ratio": ratio, **of_engine, **sizes}
            for (engine, _), ratio in zip(smallest.WAYS, ratios, strict=True)
        ],
    }


def test_each_seed_has_a_row_and_several_have_medians() -> None:
    rows = [row(0, (3.0, 3.1, 3.2)), row(1, (9.0, 8.0, 7.0), ("contention",)), row(2, (4.0, 4.1, 4.2))]
    header, *lines = smallest.table({"rows": rows})
    first, second, _, last = (dict(zip(header, cells, strict=True)) for cells in lines)
    assert first["recommended"] == "128 px, 14 blocks" and first["recommended (.tflite, .onnx)"] == "98.3, 98.0"
    assert first["times as fast in onnxruntime"] == "3.00 [2.90, 3.30]" and first["times smaller"] == "3.0"
    assert second["times as fast in litert"] == "8.00 [2.90, 3.30] (not valid: contention)"
    assert last["seed"] == "median" and last["times as fast in onnxruntime"] == "4.00" and last["search, s"] == "481"


def test_one_seed_has_no_median() -> None:
    assert len(smallest.table({"rows": [row(0, (3.0, 3.1, 3.2))]})) == 2
