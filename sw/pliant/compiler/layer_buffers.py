"""What the steps of a layer need on chip, and the loads that bring it there."""

from __future__ import annotations

from collections.abc import Sequence

from pliant.compiler.buffers import Arena, Buffer, Slot
from pliant.compiler.geometry import Geometry, Span
from pliant.compiler.layer_constants import LayerConstants
from pliant.compiler.memory_plan import DdrTensor, Rectangle
from pliant.compiler.step import LoadTask, Step
from pliant.compiler.tile import Tiling, tap_words
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Load, Target
from pliant.spec.memory import TABLE_BYTES, aligned_rows, ceil_div, region_strides, round_up
from pliant.spec.program import Segment


class LayerBuffers:
    """Hands out the buffers of one layer; adds to a step the loads of what is not there yet.

    Parameters
    ----------
    geometry : Geometry
    tiling : Tiling
    constants : LayerConstants
    arena_start : int
        Bank address of the first slot.
    at_once : int
        Layers that share the parameter buffer at a time.

    Attributes
    ----------
    arena : Arena
        Slots for inputs, outputs and residuals.
    """

    def __init__(
        self, geometry: Geometry, tiling: Tiling, constants: LayerConstants, arena_start: int,
        at_once: int,
    ) -> None:
        self.geometry = geometry
        self.config: AcceleratorConfig = geometry.config
        self.tiling = tiling
        self.constants = constants
        self.at_once = at_once
        self._cut_arena(arena_start)
        self._buffers: dict[str, tuple[tuple[object, ...], Buffer]] = {}
        self._turns = {"input": 0, "output": 0, "residual": 0, "displacement": 0}
        self._loaded_rows: dict[Buffer, int] = {}
        self._loaded_spans: set[tuple[int, int]] = set()

    def _cut_arena(self, start: int) -> None:
        tiling = self.tiling

        def cut(count: int, size: int) -> list[Slot]:
            nonlocal start
            slots = [Slot(start + index * size, size) for index in range(count)]
            start += count * size
            return slots

        self._slots = {"input": cut(tiling.input_slots, tiling.input_slot_size),
                       "output": cut(tiling.output_slots, tiling.output_slot_size),
                       "residual": cut(tiling.residual_slots, tiling.output_slot_size),
                       "displacement": cut(tiling.displacement_slots,
                                           tiling.displacement_slot_size)}
        self.arena = Arena([slot for slots in self._slots.values() for slot in slots])
        assert start <= self.config.feature_depth

    def _take_slot(self, name: str, size: int) -> Buffer:
        slots = self._slots[name]
        slot = slots[self._turns[name] % len(slots)]
        self._turns[name] += 1
        return Buffer(Target.FEATURE, size, slot)

    def _current(self, name: str, key: tuple[object, ...], target: Target, size: int) -> Buffer:
        """Return the buffer called `name`, a fresh one whenever `key` has changed."""
        held = self._buffers.get(name)
        if held is None or held[0] != key:
            held = key, Buffer(target, size)
            self._buffers[name] = held
        return held[1]

    def input(
        self, step: Step, pieces: Sequence[tuple[DdrTensor, tuple[int, int]]],
        spans: tuple[Span, Span], tile: int, rows_needed: int,
    ) -> Buffer:
        """Return the buffer of an input tile (rows and columns `spans`).

        It holds lane groups of tensors, `pieces`, one after the other. Of its first `rows_needed`
        rows, those that no earlier step needed are loaded.
        """
        rows, columns = spans
        return self._tile("input", step, pieces, tile, (rows.first, rows.last),
                          (columns.first, columns.last), rows_needed)

    def offsets(
        self, step: Step, tensor: DdrTensor, groups: int, tile: int, rows: tuple[int, int],
        columns: tuple[int, int], rows_needed: int,
    ) -> Buffer:
        """Return the buffer of the offsets of a tile of displaced windows, filled as inputs are."""
        return self._tile("displacement", step, [(tensor, (0, groups))], tile, rows, columns,
                          rows_needed)

    def _tile(
        self, name: str, step: Step, pieces: Sequence[tuple[DdrTensor, tuple[int, int]]],
        tile: int, rows: tuple[int, int], columns: tuple[int, int], rows_needed: int,
    ) -> Buffer:
        """Return the buffer of rows and columns of `pieces`, with the first `rows_needed` loaded.

        Whoever needs none but those comes first.
        """
        key = (tile, *((tensor.info.name, *groups) for tensor, groups in pieces))
        height = rows[1] - rows[0]
        strides = region_strides(height, columns[1] - columns[0])
        held = self._buffers.get(name)
        if held is None or held[0] != key:
            count = sum(groups[1] - groups[0] for _, groups in pieces)
            buffer = self._take_slot(name, count * strides[0])
            self._buffers[name] = key, buffer
            self._loaded_rows[buffer] = 0
        buffer = self._buffers[name][1]
        loaded = self._loaded_rows[buffer]
        needed = min(round_up(rows_needed, aligned_rows(strides[1])), height)
        if needed > loaded:
            start = (loaded >> 1) * strides[1]
            for tensor, groups in pieces:
                part = Rectangle(groups, (rows[0] + loaded, rows[0] + needed), columns)
                self._load_features(step, buffer, tensor, part, strides, start)
                start += (groups[1] - groups[0]) * strides[0]
            self._loaded_rows[buffer] = needed
        return buffer

    def residual(
        self, step: Step, tensor: DdrTensor, region: Rectangle, strides: tuple[int, int]
    ) -> Buffer:
        """Return the buffer of a step's residual."""
        size = (region.groups[1] - region.groups[0]) * strides[0]
        buffer = self._take_slot("residual", size)
        self._load_features(step, buffer, tensor, region, strides, 0)
        return buffer

    def displacements(
        self, step: Step, tensors: Sequence[tuple[DdrTensor, Rectangle]],
        strides: tuple[int, int],
    ) -> tuple[Buffer, list[int]]:
        """Return the buffer of offsets and masks, and where in it each of the `tensors` begins."""
        starts = [0]
        for _, region in tensors:
            starts.append(starts[-1] + (region.groups[1] - region.groups[0]) * strides[0])
        buffer = self._take_slot("displacement", starts[-1])
        for (tensor, region), start in zip(tensors, starts, strict=False):
            self._load_features(step, buffer, tensor, region, strides, start)
        return buffer, starts[:-1]

    def output(self, size: int) -> Buffer:
        """Return a buffer for the results of a step."""
        buffer = self._take_slot("output", size)
        assert buffer.slot is not None
        buffer.address = buffer.slot.first
        return buffer

    def _load_features(
        self, step: Step, buffer: Buffer, tensor: DdrTensor, part: Rectangle,
        strides: tuple[int, int], destination: int,
    ) -> None:
        load = Load(
            target=Target.FEATURE, destination=destination, **tensor.transfer(part),
            **region_fields(self.config, part, strides))
        step.loads.append(LoadTask(buffer, load, tensor, part))

    def matrix_weights(
        self, step: Step, channel: int, groups: tuple[int, int]
    ) -> tuple[Buffer, int]:
        """Return the buffer of the weights and where the step's own begin in it."""
        words, total = self.geometry.group_words, self.geometry.input_groups
        tile, own = channel * total * words, groups[0] * words
        if self.tiling.weights_resident:
            channels = ceil_div(self.geometry.output_groups, self.tiling.channel_groups)
            buffer = self._kernels(step, Target.WEIGHT, (tile, tile + total * words),
                                   channels * total * words)
            return buffer, tile + own
        span = (tile + own, tile + groups[1] * words)
        return self._kernels(step, Target.WEIGHT, span, None), 0

    def taps(self, step: Step, channel: int) -> tuple[Buffer, int]:
        """Return the buffer of the depthwise weights and where those of `channel` begin in it."""
        geometry, groups = self.geometry, self.tiling.channel_groups
        whole = tap_words(geometry, groups)
        if geometry.operation.phased:  # all are resident, phase by phase
            return self._kernels(step, Target.TAPS, (0, whole), whole), channel * groups
        words = geometry.tap_words(groups)
        span = channel * words, min((channel + 1) * words, whole)
        if self.tiling.weights_resident:
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

    def parameters(self, step: Step, channel: int) -> tuple[Buffer, int]:
        """Return the buffer of the parameter records and where those of `channel` begin."""
        own = self.constants.step_records
        records = self.constants.records
        if records == own:
            channel = 0
        share = self.config.parameter_depth // (2 * self.at_once)
        whole = records <= max(own, share)
        count, first, key = (records, 0, ()) if whole else (own, channel * own, (channel,))
        before = self._buffers.get("parameters")
        buffer = self._current("parameters", key, Target.PARAMETER, count)
        if before is None or before[1] is not buffer:
            size = self.config.parameter_bytes
            step.loads.append(LoadTask(buffer, Load(
                target=Target.PARAMETER, segment=Segment.CONSTANTS,
                offset=self.constants.parameters + first * size,
                run_beats=count * size // self.config.axi_data_bytes)))
        return buffer, channel * own - first

    def table(self, step: Step) -> Buffer:
        """Return the buffer of the lookup table."""
        known = "table" in self._buffers
        buffer = self._current("table", (), Target.TABLE, TABLE_BYTES)
        if not known:
            step.loads.append(LoadTask(buffer, Load(
                target=Target.TABLE, segment=Segment.CONSTANTS, offset=self.constants.table,
                run_beats=TABLE_BYTES // self.config.axi_data_bytes)))
        return buffer


def region_fields(
    config: AcceleratorConfig, part: Rectangle, strides: tuple[int, int]
) -> dict[str, int]:
    """Return the feature side of a Load or Store of `part`."""
    groups, rows, columns = (stop - start for start, stop in
                             (part.groups, part.rows, part.columns))
    return {"row_beats": columns // config.words_per_beat, "rows": rows,
            "groups": groups, "group_stride": strides[0], "row_stride": strides[1]}
