"""Time of each operator in LiteRT, each cut out of the graph and run alone.

The Python packages of LiteRT have no profiler: neither the Interpreter nor the CompiledModel of ai-edge-litert 2.3.0
has one, no wheel has the program benchmark_model, and the profiler of the C library changes with every version. So
each operator becomes a graph of its own, in which the same kernels run on tensors of the same shapes. For an int8
MobileNetV2 of 224x224 pixels the sum agrees with the C library's profiler within 1 %. Operators with large weights are
up to a fifth faster than in the whole network, because their weights stay in the caches.

A Pad runs together with the operator that reads it, because LiteRT fuses the two.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecls.benchmark.measure import time_calls
from edgecls.errors import ModelFileError
from edgecls.model_file.metadata import ModelSpec
from edgecls.model_file.tflite import find_field, find_tables, find_vector, follow, read_ints, read_tflite
from edgecls.profiling.timed import WARM_UP_RUNS, Timed, interquartile_mean, time_runs
from edgecls.runtime.litert import captured_stderr, import_interpreter

METHOD = "each operator cut out of the graph and run alone, as LiteRT's Python packages have no profiler"
# Each round opens new interpreters, because the layout of their memory changes the time.
ROUNDS = 5
# Slots of a SubGraph in LiteRT's schema.fbs.
_INPUTS, _OUTPUTS, _OPERATORS = 6, 8, 10


@dataclass(frozen=True)
class Cut:
    """Operators that run together."""

    operators: tuple[int, ...]  # their indices in the graph; the last one gives the name
    graph: bytes  # TFLite graph of these operators alone


def time_operators(graph: bytes, spec: ModelSpec, threads: int, seconds: float) -> list[Timed]:
    """Return the time of each operator, in the order they run.

    Raises:
        MissingDependency: no interpreter is installed.
        ModelFileError: damaged, or not laid out as the converters do.
    """
    module, _ = import_interpreter()
    cuts = cut_operators(graph)
    slot = seconds / ROUNDS / len(cuts)
    rounds = [[_time_cut(module, cut, threads, slot) for cut in cuts] for _ in range(ROUNDS)]
    nodes = read_tflite(graph).nodes
    found = []
    for place, cut in enumerate(cuts):
        last = nodes[cut.operators[-1]]
        origins = tuple(nodes[operator].outputs[0].name for operator in cut.operators)
        found.append(Timed(origins[-1], last.op, interquartile_mean([times[place] for times in rounds]), origins))
    return found


def cut_operators(graph: bytes) -> list[Cut]:
    """Return every operator of a TFLite graph as a graph of its own, in the order they run.

    Operators on constants alone run when the graph is loaded. They are part of the cuts that read them.

    Raises:
        ModelFileError: damaged, or not laid out as the converters do.
    """
    nodes = read_tflite(graph).nodes
    cutter = _Cutter(graph)
    made_by: dict[int, int] = {}
    # Operator on constants -> itself and those it needs.
    loaded: dict[int, set[int]] = {}
    cuts: list[Cut] = []
    held: list[int] = []
    for place, node in enumerate(nodes):
        reads = [i for each in (*held, place) for i in cutter.reads[each] if not cutter.is_constant[i]]
        needed = {each for i in reads for each in loaded.get(made_by.get(i, -1), ())}
        if all(made_by.get(i) in loaded for i in reads):
            loaded[place] = needed | {place}
        elif node.op == "PAD" and cutter.readers_of(place) == [place + 1]:
            held.append(place)
        else:
            cuts.append(Cut((*held, place), cutter.cut([*sorted(needed), *held, place])))
            held = []
        made_by |= dict.fromkeys(cutter.writes[place], place)
    return cuts


class _Cutter:
    """The bytes of a TFLite graph, and the positions of its parts."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.table = next(iter(find_tables(data, follow(data, 0), 8)))
        operators = list(find_tables(data, self.table, _OPERATORS))
        self.positions = operators
        self.reads = [tuple(i for i in read_ints(data, operator, 6) if i >= 0) for operator in operators]
        self.writes = [read_ints(data, operator, 8) for operator in operators]
        tensors = (zip(i, n.inputs, strict=True) for i, n in zip(self.reads, read_tflite(data).nodes, strict=True))
        self.is_constant = {i: tensor.is_constant for pairs in tensors for i, tensor in pairs}

    def readers_of(self, place: int) -> list[int]:
        """Return the operators that read what this one makes."""
        return [reader for reader, reads in enumerate(self.reads) if set(reads) & set(self.writes[place])]

    def cut(self, places: Sequence[int]) -> bytes:
        """Return the graph of these operators alone, with the outputs of the last one."""
        made = {i for place in places for i in self.writes[place]}
        read = [i for place in places for i in self.reads[place] if i not in made and not self.is_constant[i]]
        cut = bytearray(self.data)
        cut += bytes(-len(cut) % 4)
        for slot, tensors in ((_INPUTS, dict.fromkeys(read)), (_OUTPUTS, self.writes[places[-1]])):
            self._point(cut, slot, len(cut))
            cut += struct.pack(f"<{len(tensors) + 1}I", len(tensors), *tensors)
        # Offsets cannot point back, so that the list of operators is overwritten, not appended.
        start, _ = find_vector(self.data, self.table, _OPERATORS)
        offsets = [self.positions[place] - (start + 4 * entry) for entry, place in enumerate(places)]
        if min(offsets) <= 0:
            raise ModelFileError(
                "this TFLite file has another layout than the TFLite converter's; profile one from 'edgecls export'"
            )
        struct.pack_into(f"<{len(places) + 1}I", cut, start - 4, len(places), *offsets)
        return bytes(cut)

    def _point(self, cut: bytearray, slot: int, target: int) -> None:
        field = find_field(self.data, self.table, slot)
        struct.pack_into("<I", cut, field, target - field)


def _time_cut(module: Any, cut: Cut, threads: int, seconds: float) -> float:
    """Return the time of one run in ms."""
    with captured_stderr():
        interpreter = module.Interpreter(model_content=cut.graph, num_threads=threads)
        interpreter.allocate_tensors()
    for index, values in _random_inputs(interpreter):
        interpreter.set_tensor(index, values)
    time_calls(interpreter.invoke, WARM_UP_RUNS)
    return time_runs(interpreter.invoke, seconds)


def _random_inputs(interpreter: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    random = np.random.default_rng(0)
    for source in interpreter.get_input_details():
        shape, dtype = tuple(source["shape"]), np.dtype(source["dtype"])
        if dtype.kind == "f":
            yield source["index"], random.random(shape).astype(dtype)
        else:
            yield source["index"], random.integers(0, 128, shape).astype(dtype)
