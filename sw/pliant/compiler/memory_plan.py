"""Places in DDR: constants, tensors that live from layer to layer, inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.graph import Graph, Tensor
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div, feature_tensor_bytes, round_up, row_pitch
from pliant.spec.program import Segment, TensorInfo

MIN_ALIGNMENT = 64


@dataclass(frozen=True)
class Rectangle:
    """Lane groups, rows and columns (words, whole beats) of a tensor: half-open ranges."""

    groups: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True, eq=False)
class DdrTensor:
    """A feature tensor with its place; `ready` marks the words stored so far."""

    info: TensorInfo
    config: AcceleratorConfig
    ready: NDArray[np.bool_]

    def transfer(self, part: Rectangle) -> dict[str, int]:
        """Return the DDR fields of a Load or Store of `part`, in runs as long as possible."""
        lanes, words = self.config.lanes, self.config.words_per_beat
        _, height, width = self.info.shape
        pitch = row_pitch(self.config, width)
        groups, rows, columns = (stop - start for start, stop in
                                 (part.groups, part.rows, part.columns))
        start = (part.groups[0] * height + part.rows[0]) * pitch + part.columns[0]
        fields = {"segment": self.info.segment, "offset": self.info.offset + start * lanes}
        beats = columns // words
        if columns < pitch:
            return fields | {"run_beats": beats, "runs": rows, "run_stride": pitch * lanes,
                             "blocks": groups, "block_stride": height * pitch * lanes}
        if rows < height:
            return fields | {"run_beats": rows * beats, "blocks": groups,
                             "block_stride": height * pitch * lanes}
        return fields | {"run_beats": groups * rows * beats}

    def words(self, part: Rectangle) -> NDArray[np.bool_]:
        """Return the view of `ready` that `part` covers."""
        return self.ready[slice(*part.groups), slice(*part.rows), slice(*part.columns)]


class Constants:
    """The constants segment; equal blobs share a place."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._alignment = alignment(config)
        self._places: dict[bytes, int] = {}
        self._data = bytearray()

    def place(self, values: NDArray[np.generic]) -> int:
        """Return the offset of the bytes of `values`."""
        blob = values.tobytes()
        if blob not in self._places:
            self._places[blob] = len(self._data)
            self._data += blob
            self._data += bytes(-len(self._data) % self._alignment)
        return self._places[blob]

    def data(self) -> bytes:
        """Return the segment."""
        return bytes(self._data)


def alignment(config: AcceleratorConfig) -> int:
    """Return the alignment in bytes of everything in DDR."""
    return max(MIN_ALIGNMENT, config.axi_data_bytes)


def place_tensors(
    graph: Graph, config: AcceleratorConfig, *, reuse: bool,
    without: Collection[str] = (), stages: Sequence[Sequence[int]] = (),
) -> tuple[dict[str, DdrTensor], int]:
    """Give every tensor of a lowered graph its place.

    With `reuse`, a scratch tensor takes the bytes of those that no node of its stage or later
    reads. `stages` lists nodes that run at the same time; the others are a stage each. Tensors in
    `without` get no place.

    Returns
    -------
    The tensors by name, and the bytes of the scratch segment.
    """
    last_read = {name: step for step, node in enumerate(graph.nodes) for name in node.inputs}
    starts = {step: stage[0] for stage in stages for step in stage}
    places: dict[str, DdrTensor] = {}
    ends = {Segment.INPUT: 0, Segment.OUTPUT: 0, Segment.SCRATCH: 0}
    live: list[tuple[int, int, int]] = []  # first byte, end, last node that reads it

    def add(tensor: Tensor, segment: int, offset: int, *, ready: bool) -> None:
        channels, height, width = tensor.shape
        shape = ceil_div(channels, config.lanes), height, row_pitch(config, width)
        info = TensorInfo(name=tensor.name, shape=tensor.shape, segment=segment, offset=offset,
                          scale=tensor.scale, zero_point=tensor.zero_point,
                          unfolding=tensor.unfolding, channels=tensor.channels)
        places[tensor.name] = DdrTensor(info, config, np.full(shape, ready))
        ends[segment] = max(ends[segment], offset + _bytes(tensor, config))

    def append(tensor: Tensor, segment: int, *, ready: bool) -> None:
        add(tensor, segment, round_up(ends[segment], alignment(config)), ready=ready)

    for tensor in graph.inputs:
        append(tensor, Segment.INPUT, ready=True)
    outputs = set(graph.outputs)
    for step, node in enumerate(graph.nodes):
        tensor = node.output
        if tensor.name in outputs or tensor.name in without:
            continue
        if not reuse:
            append(tensor, Segment.SCRATCH, ready=False)
            continue
        live = [place for place in live if place[2] >= starts.get(step, step)]
        size = round_up(_bytes(tensor, config), alignment(config))
        offset = _first_fit(live, size)
        add(tensor, Segment.SCRATCH, offset, ready=False)
        live.append((offset, offset + size, last_read.get(tensor.name, step)))
    tensors = graph.tensors()
    for name in graph.outputs:
        append(tensors[name], Segment.OUTPUT, ready=False)
    return places, round_up(ends[Segment.SCRATCH], alignment(config))


def _first_fit(live: list[tuple[int, int, int]], size: int) -> int:
    """Return the lowest offset of `size` bytes that no live range covers."""
    offset = 0
    for first, end, _ in sorted(live):
        if first - offset >= size:
            break
        offset = max(offset, end)
    return offset


def _bytes(tensor: Tensor, config: AcceleratorConfig) -> int:
    channels, height, width = tensor.shape
    return feature_tensor_bytes(config, height, width, channels)
