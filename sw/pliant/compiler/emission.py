"""Turns a tiled layer into steps: one compute instruction each, with what it needs on chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pliant.compiler.buffers import Arena, Buffer, Slot
from pliant.compiler.geometry import Geometry, Span
from pliant.compiler.layer_constants import LayerConstants
from pliant.compiler.memory_plan import Constants, DdrTensor, Rectangle
from pliant.compiler.operation import Reduction
from pliant.compiler.step import LoadTask, Step
from pliant.compiler.tiling import Tiling
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Load, Matrix, Post, Source, Store, Target
from pliant.spec.memory import TABLE_BYTES, ceil_div, region_strides, round_up
from pliant.spec.program import Segment

_SOURCES = {Reduction.MAXIMUM: Source.MAXIMUM, Reduction.SUM: Source.SUM,
            Reduction.DEPTHWISE: Source.DEPTHWISE}


@dataclass(frozen=True)
class Place:
    """Indices of a step in the loop nest."""

    tile: int
    band: int
    channel: int
    chunk: int
    part: int
    last: bool


class LayerSteps:
    """Builds the steps of one layer.

    Parameters
    ----------
    geometry : Geometry
    tiling : Tiling
    tensors : dict of DdrTensor by name
    constants : Constants
        Weights, parameters and tables are placed here.
    layer : int
        Index of the layer, and of its arena.
    first_step : int
        Number of the first step in the whole program.
    arena_start : int
        Bank address of the layer's arena.
    """

    def __init__(
        self, geometry: Geometry, tiling: Tiling, tensors: dict[str, DdrTensor],
        constants: Constants, *, layer: int, first_step: int, arena_start: int,
    ) -> None:
        self.geometry = geometry
        self.config: AcceleratorConfig = geometry.config
        self.operation = geometry.operation
        self.tiling = tiling
        self.layer = layer
        self.source = tensors[self.operation.inputs[0]]
        self.result = tensors[self.operation.output.name]
        self.residual = tensors[self.operation.inputs[1]] if self.operation.residual else None
        self.row_tiles = geometry.rows.split(tiling.tile_height)
        self.column_tiles = geometry.columns.split(tiling.tile_width)
        self.channels = ceil_div(geometry.output_groups, tiling.channel_groups)
        self.first_step = first_step
        self.steps: list[Step] = []
        self._cut_arena(arena_start)
        self.constants = LayerConstants(geometry, tiling.channel_groups, constants)
        self._buffers: dict[str, tuple[tuple[int, ...], Buffer]] = {}
        self._turns = {"input": 0, "output": 0}
        self._loaded_rows: dict[Buffer, int] = {}
        self._loaded_spans: set[tuple[int, int]] = set()
        for place in self._places():
            self.steps.append(self._step(place))

    def _cut_arena(self, start: int) -> None:
        tiling = self.tiling

        def cut(count: int, size: int) -> list[Slot]:
            nonlocal start
            slots = [Slot(start + index * size, size) for index in range(count)]
            start += count * size
            return slots

        self.slots = {"input": cut(tiling.input_slots, tiling.input_slot_size),
                      "output": cut(tiling.output_slots, tiling.output_slot_size),
                      "residual": []}
        if self.residual is not None:
            self.slots["residual"] = cut(tiling.output_slots, tiling.output_slot_size)
        self.arena = Arena([slot for slots in self.slots.values() for slot in slots])
        assert start <= self.config.feature_depth

    # Loop nest

    def _places(self) -> Iterator[Place]:
        tiles = len(self.row_tiles) * len(self.column_tiles)
        chunks, parts = self._chunk_counts()
        if self.tiling.order == "channel-tile-band":
            outer = [(tile, band, channel) for channel in range(self.channels)
                     for tile in range(tiles) for band in range(len(self._bands(tile)))]
        elif self.tiling.order == "tile-channel-band":
            outer = [(tile, band, channel) for tile in range(tiles)
                     for channel in range(self.channels)
                     for band in range(len(self._bands(tile)))]
        else:
            outer = [(tile, band, channel) for tile in range(tiles)
                     for band in range(len(self._bands(tile)))
                     for channel in range(self.channels)]
        for tile, band, channel in outer:
            for chunk in range(chunks):
                for part in range(parts):
                    if self._groups(chunk, part) is not None:
                        yield Place(tile, band, channel, chunk, part,
                                    self._is_last(chunk, part, chunks, parts))

    def _chunk_counts(self) -> tuple[int, int]:
        if not self.geometry.matrix:
            return 1, 1
        return (ceil_div(self.geometry.input_groups, self.tiling.input_chunk),
                ceil_div(self.tiling.input_chunk, self.tiling.weight_chunk))

    def _groups(self, chunk: int, part: int) -> tuple[int, int] | None:
        """Return the input lane groups that a step multiplies; None when there are none left."""
        low = chunk * self.tiling.input_chunk
        high = min(low + self.tiling.input_chunk, self.geometry.input_groups)
        start = low + part * self.tiling.weight_chunk
        if start >= high:
            return None
        return start, min(start + self.tiling.weight_chunk, high)

    def _is_last(self, chunk: int, part: int, chunks: int, parts: int) -> bool:
        if chunk + 1 < chunks:
            return False
        return part + 1 == parts or self._groups(chunk, part + 1) is None

    def _tile(self, tile: int) -> tuple[Span, Span]:
        return (self.row_tiles[tile // len(self.column_tiles)],
                self.column_tiles[tile % len(self.column_tiles)])

    def _bands(self, tile: int) -> list[Span]:
        rows, _ = self._tile(tile)
        return self.geometry.rows.split(self.tiling.band_height, rows.start, rows.stop)

    # One step

    def _step(self, place: Place) -> Step:
        step = Step(self.layer)
        if self.geometry.matrix:
            self._add_matrix(step, place)
        if place.last:
            self._add_post(step, place)
        for buffer in (step.input, step.weights, step.taps, step.parameters, step.residual,
                       step.output):
            if buffer is not None:
                buffer.used(self.first_step + len(self.steps))
        if step.post is not None and step.post.table_enable:
            self._buffers["table"][1].used(self.first_step + len(self.steps))
        return step

    def _current(self, name: str, key: tuple[int, ...], target: Target, size: int) -> Buffer:
        """Return the buffer called `name`, a fresh one whenever `key` has changed."""
        held = self._buffers.get(name)
        if held is None or held[0] != key:
            held = key, Buffer(target, size)
            self._buffers[name] = held
        return held[1]

    def _take_slot(self, name: str, size: int, turn: int) -> Buffer:
        slots = self.slots[name]
        return Buffer(Target.FEATURE, size, slots[turn % len(slots)])

    def _input(self, step: Step, place: Place, groups: tuple[int, int]) -> Buffer:
        """Return the buffer of the input tile; rows that no earlier step needed are loaded."""
        key = (place.tile, groups[0], groups[1])
        rows, columns = self._tile(place.tile)
        count = groups[1] - groups[0]
        strides = region_strides(rows.inputs, columns.inputs)
        held = self._buffers.get("input")
        if held is None or held[0] != key:
            buffer = self._take_slot("input", count * strides[0], self._turns["input"])
            self._turns["input"] += 1
            self._buffers["input"] = key, buffer
            self._loaded_rows[buffer] = 0
        buffer = self._buffers["input"][1]
        band = self._bands(place.tile)[place.band]
        loaded = self._loaded_rows[buffer]
        needed = min(round_up(band.last - rows.first, 2), rows.inputs)
        if needed > loaded:
            part = Rectangle(groups, (rows.first + loaded, rows.first + needed),
                             (columns.first, columns.last))
            self._load_features(step, buffer, self.source, part, strides,
                                (loaded >> 1) * strides[1])
            self._loaded_rows[buffer] = needed
        return buffer

    def _load_features(
        self, step: Step, buffer: Buffer, tensor: DdrTensor, part: Rectangle,
        strides: tuple[int, int], destination: int,
    ) -> None:
        load = Load(
            target=Target.FEATURE, destination=destination, **tensor.transfer(part),
            **self._region_fields(part, strides))
        step.loads.append(LoadTask(buffer, load, tensor, part))

    def _region_fields(self, part: Rectangle, strides: tuple[int, int]) -> dict[str, int]:
        """Return the feature side of a Load or Store."""
        groups, rows, columns = (stop - start for start, stop in
                                 (part.groups, part.rows, part.columns))
        return {"row_beats": columns // self.config.words_per_beat, "rows": rows,
                "groups": groups, "group_stride": strides[0], "row_stride": strides[1]}

    def _add_matrix(self, step: Step, place: Place) -> None:
        window = self.operation.window
        chunk = self.tiling.input_chunk
        low = place.chunk * chunk
        groups = self._groups(place.chunk, place.part)
        assert groups is not None
        rows, columns = self._tile(place.tile)
        band = self._bands(place.tile)[place.band]
        strides = region_strides(rows.inputs, columns.inputs)
        step.weights, weights = self._weights(step, place, groups)
        step.input = self._input(
            step, place, (low, min(low + chunk, self.geometry.input_groups)))
        step.matrix = Matrix(
            source=(groups[0] - low) * strides[0], group_stride=strides[0],
            row_stride=strides[1], height=rows.size, width=columns.size,
            origin_y=band.first + band.origin - rows.first, origin_x=columns.origin,
            groups=groups[1] - groups[0],
            kernel_height=window.kernel[0], kernel_width=window.kernel[1],
            dilation_y=window.dilation[0], dilation_x=window.dilation[1],
            stride_y=window.stride[0], stride_x=window.stride[1],
            out_height=band.outputs, out_width=columns.outputs, pad_value=window.pad_value,
            weights=weights, accumulate=int(groups[0] > 0))

    def _weights(
        self, step: Step, place: Place, groups: tuple[int, int]
    ) -> tuple[Buffer, int]:
        """Return the buffer of the weights and where the step's own begin in it."""
        words, total = self.geometry.group_words, self.geometry.input_groups
        tile, own = place.channel * total * words, groups[0] * words
        if self.tiling.weights_resident:
            buffer = self._kernels(step, Target.WEIGHT, (tile, tile + total * words),
                                   self.channels * total * words)
            return buffer, tile + own
        span = (tile + own, tile + groups[1] * words)
        return self._kernels(step, Target.WEIGHT, span, None), 0

    def _taps(self, step: Step, groups: tuple[int, int]) -> tuple[Buffer, int]:
        """Return the buffer of the depthwise weights and where those of `groups` begin in it."""
        words = self.geometry.patches
        span = (groups[0] * words, groups[1] * words)
        if self.tiling.weights_resident:
            whole = self.geometry.output_groups * words
            return self._kernels(step, Target.TAPS, span, whole), span[0]
        return self._kernels(step, Target.TAPS, span, None), 0

    def _kernels(
        self, step: Step, target: Target, span: tuple[int, int], whole: int | None
    ) -> Buffer:
        """Return the buffer that holds words `span` of the weights; what it lacks is loaded.

        It has room for the `whole` words of the layer, or, if that is None, for those of `span`.
        """
        key, size = (span, span[1] - span[0]) if whole is None else ((), whole)
        held = self._buffers.get("weights")
        buffer = self._current("weights", key, target, size)
        if held is None or held[1] is not buffer:
            self._loaded_spans.clear()
        if span not in self._loaded_spans:
            self._loaded_spans.add(span)
            word_bytes = 4 * self.config.lanes if target is Target.TAPS else self.config.cols
            step.loads.append(LoadTask(buffer, Load(
                target=target, segment=Segment.CONSTANTS,
                offset=self.constants.weights + span[0] * word_bytes,
                run_beats=(span[1] - span[0]) * word_bytes // self.config.axi_data_bytes,
                destination=0 if whole is None else span[0])))
        return buffer

    def _parameters(self, step: Step, channel: int) -> tuple[Buffer, int]:
        """Return the buffer of the parameter records and where those of `channel` begin."""
        cols = self.config.cols
        records = self.constants.records
        if records == cols:
            channel = 0
        whole = records <= max(cols, self.config.parameter_depth // 2)
        count, first, key = (records, 0, ()) if whole else (cols, channel * cols, (channel,))
        before = self._buffers.get("parameters")
        buffer = self._current("parameters", key, Target.PARAMETER, count)
        if before is None or before[1] is not buffer:
            size = self.config.parameter_bytes
            step.loads.append(LoadTask(buffer, Load(
                target=Target.PARAMETER, segment=Segment.CONSTANTS,
                offset=self.constants.parameters + first * size,
                run_beats=count * size // self.config.axi_data_bytes)))
        return buffer, channel * cols - first

    def _add_table(self, step: Step) -> None:
        if "table" not in self._buffers:
            buffer = self._current("table", (), Target.TABLE, TABLE_BYTES)
            step.loads.append(LoadTask(buffer, Load(
                target=Target.TABLE, segment=Segment.CONSTANTS, offset=self.constants.table,
                run_beats=TABLE_BYTES // self.config.axi_data_bytes)))

    def _add_post(self, step: Step, place: Place) -> None:
        operation, tiling = self.operation, self.tiling
        _, columns = self._tile(place.tile)
        band = self._bands(place.tile)[place.band]
        low = place.channel * tiling.channel_groups
        high = min(low + tiling.channel_groups, self.geometry.output_groups)
        stored = Rectangle(
            (low, high), (band.start, band.stop),
            (columns.start, round_up(columns.stop, self.config.words_per_beat)))
        strides = region_strides(band.outputs, stored.columns[1] - stored.columns[0])
        step.parameters, parameters = self._parameters(step, place.channel)
        fields = self._requantization_fields() | {
            "groups": high - low, "out_height": band.outputs, "out_width": columns.outputs,
            "destination_group_stride": strides[0], "destination_row_stride": strides[1],
            "parameters": parameters,
        }
        if operation.table is not None:
            self._add_table(step)
            fields["table_enable"] = 1
        if not self.geometry.matrix:
            fields |= self._window_fields(step, place, (low, high))
        size, turn = (high - low) * strides[0], self._turns["output"]
        self._turns["output"] += 1
        step.output = self._take_slot("output", size, turn)
        if self.residual is not None:
            step.residual = self._take_slot("residual", size, turn)
            self._load_features(step, step.residual, self.residual, stored, strides, 0)
            fields |= self._residual_fields(strides)
        step.post = Post(**fields)
        step.store = Store(**self.result.transfer(stored), **self._region_fields(stored, strides))
        step.result, step.stored = self.result, stored

    def _requantization_fields(self) -> dict[str, int]:
        requantization = self.operation.requantization
        return {"rounding": requantization.rounding, "zero_point": requantization.zero_point,
                "clip_min": requantization.clip_min, "clip_max": requantization.clip_max}

    def _window_fields(
        self, step: Step, place: Place, groups: tuple[int, int]
    ) -> dict[str, int]:
        window = self.operation.window
        rows, columns = self._tile(place.tile)
        strides = region_strides(rows.inputs, columns.inputs)
        step.input = self._input(step, place, groups)
        taps = 0
        if self.geometry.depthwise:
            step.taps, taps = self._taps(step, groups)
        band = self._bands(place.tile)[place.band]
        return {
            "source": _SOURCES[self.operation.reduction], "taps": taps,
            "window_group_stride": strides[0], "window_row_stride": strides[1],
            "height": rows.size, "width": columns.size,
            "origin_y": band.first + band.origin - rows.first, "origin_x": columns.origin,
            "kernel_height": window.kernel[0], "kernel_width": window.kernel[1],
            "stride_y": window.stride[0], "stride_x": window.stride[1],
            "dilation_y": window.dilation[0], "dilation_x": window.dilation[1],
            "pad_value": window.pad_value,
        }

    def _residual_fields(self, strides: tuple[int, int]) -> dict[str, int]:
        add = self.operation.residual
        assert add is not None
        return {
            "add_enable": 1, "residual_group_stride": strides[0],
            "residual_row_stride": strides[1], "add_multiplier": add.multiplier,
            "add_residual_multiplier": add.residual_multiplier, "add_offset": add.offset,
            "add_shift": add.shift, "add_zero_point": add.zero_point,
            "add_clip_min": add.clip_min, "add_clip_max": add.clip_max,
        }
