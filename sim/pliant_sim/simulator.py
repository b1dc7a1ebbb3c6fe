"""Instruction-level simulator: what each instruction does, in program order, vectorised.

Every instruction works on its whole tile at once. All images of a batch run side by side: feature
buffer, accumulators and activation segments have a leading batch axis, constants are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from pliant.spec.config import ACCUMULATOR_BANKS, FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import (
    MAX_TOKENS,
    End,
    Instruction,
    InstructionError,
    Load,
    Matrix,
    Post,
    Source,
    Store,
    Target,
    Unit,
)
from pliant.spec.memory import (
    bank_of,
    feature_tensor_bytes,
    pack_features,
    unpack_features,
)
from pliant.spec.numerics import Rounding, add, requantize
from pliant.spec.program import Program, Segment, TensorInfo

EXACT_DEPTH = 1024
"""Products of two int8 whose sum float32 holds exactly: 1024 * 128 * 128 = 2**24."""
POISON_SEED = 1
"""Buffers start with random bytes, so that a program that reads what it never wrote shows."""


class SimulationError(RuntimeError):
    """A program that the hardware would not execute as meant; names the instruction."""


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    `outputs` are int8 arrays in the order of ``program.outputs``: (channels, height, width), or
    (batch, channels, height, width) if the inputs had a batch axis.
    """

    outputs: list[NDArray[np.int8]]
    tensors: dict[str, NDArray[np.int8]]

    def tensor(self, name: str) -> NDArray[np.int8]:
        """Return a tensor of a program compiled with `keep_tensors`; KeyError names the known."""
        try:
            return self.tensors[name]
        except KeyError:
            known = ", ".join(self.tensors)
            raise KeyError(f"tensor {name!r} is not kept; kept: {known}") from None


class State:
    """Memories of the machine; the first axis of activations is the batch."""

    def __init__(self, config: AcceleratorConfig, program: Program, batch: int) -> None:
        random = np.random.default_rng(POISON_SEED)

        def poison(*shape: int) -> NDArray[np.int8]:
            return random.integers(-128, 128, shape, np.int8)

        lanes, cols = config.lanes, config.cols
        self.batch = batch
        self.feature = np.repeat(poison(1, FEATURE_BANKS, config.feature_depth, lanes), batch, 0)
        self.weight = poison(config.weight_depth, cols)
        self.parameter = poison(config.parameter_depth, config.parameter_bytes).view(np.uint8)
        self.table = poison(256)
        self.accumulator = np.zeros(
            (batch, ACCUMULATOR_BANKS, config.accumulator_depth, cols), np.int32)
        constants = np.frombuffer(program.constants, np.uint8)[np.newaxis]
        self.segments = {
            Segment.CONSTANTS: constants,
            Segment.SCRATCH: np.zeros((batch, program.scratch_bytes), np.uint8),
            Segment.INPUT: np.zeros((batch, _end(config, program.inputs)), np.uint8),
            Segment.OUTPUT: np.zeros((batch, _end(config, program.outputs)), np.uint8),
        }


class InstructionSimulator:
    """Executes programs for one configuration.

    Parameters
    ----------
    config : AcceleratorConfig
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config

    def run(self, program: Program, inputs: Sequence[NDArray[np.int8]]) -> RunResult:
        """Execute `program` on `inputs`, one int8 array for each of ``program.inputs``.

        Each is (channels, height, width), or all have a batch axis in front.

        Raises
        ------
        ProgramError
            The program is made for another configuration.
        ValueError
            An input has the wrong shape, type or number.
        SimulationError
            Names the instruction that cannot be executed.
        """
        state = self.start(program, inputs)
        tokens = np.zeros((len(Unit), len(Unit)), np.int64)
        instructions = program.decoded()
        for index, instruction in enumerate(instructions):
            if isinstance(instruction, End):
                if index + 1 != len(instructions):
                    raise SimulationError(f"instruction {index}: End is not the last instruction")
                break
            assert instruction.unit is not None
            try:
                _take_tokens(tokens, instruction)
                self.execute(state, instruction)
            except (SimulationError, InstructionError) as error:
                raise SimulationError(f"instruction {index} ({instruction}): {error}") from None
        else:
            raise SimulationError(f"none of the {len(instructions)} instructions is an End")
        return self.result(program, state, batched=bool(inputs) and inputs[0].ndim == 4)

    def start(self, program: Program, inputs: Sequence[NDArray[np.int8]]) -> State:
        """Return the state before the first instruction; raises as :meth:`run` does."""
        program.require(self.config)
        if len(inputs) != len(program.inputs):
            raise ValueError(f"program {program.network!r} takes {len(program.inputs)} inputs, "
                             f"not {len(inputs)}")
        batch = inputs[0].shape[0] if inputs and inputs[0].ndim == 4 else 1
        state = State(self.config, program, batch)
        segment = state.segments[Segment.INPUT]
        for info, value in zip(program.inputs, inputs, strict=True):
            images = value if value.ndim == 4 else value[np.newaxis]
            if images.dtype != np.int8 or images.shape != (batch, *info.shape):
                raise ValueError(f"input {info.name!r} must be int8 {info.shape}, alone or in "
                                 f"batches, not {value.dtype} {value.shape}")
            for image, memory in zip(images, segment, strict=True):
                packed = pack_features(self.config, image)
                memory[info.offset:info.offset + packed.size] = packed
        return state

    def result(self, program: Program, state: State, *, batched: bool) -> RunResult:
        """Return outputs and kept tensors of `state`."""
        def read(info: TensorInfo) -> NDArray[np.int8]:
            size = _tensor_bytes(self.config, info)
            memory = state.segments[info.segment][:, info.offset:info.offset + size]
            images = [unpack_features(self.config, row, info.shape) for row in memory]
            return np.stack(images) if batched else images[0]

        kept = [layer.output for layer in program.layers if layer.output is not None]
        outputs = [read(info) for info in program.outputs]
        return RunResult(outputs, {info.name: read(info) for info in kept})

    def execute(self, state: State, instruction: Instruction) -> None:
        """Execute one instruction, tokens apart.

        Raises
        ------
        InstructionError
            A field passes what the configuration has.
        SimulationError
            An access leaves a buffer or a DDR segment, or the fields contradict one another.
        """
        instruction.check(self.config)
        if isinstance(instruction, Load):
            self._load(state, instruction)
        elif isinstance(instruction, Store):
            self._store(state, instruction)
        elif isinstance(instruction, Matrix):
            self._matrix(state, instruction)
        elif isinstance(instruction, Post):
            self._post(state, instruction)
        else:
            raise SimulationError("no unit executes this instruction")

    # Load and Store

    def _runs(self, state: State, transfer: Load | Store) -> NDArray[np.uint8]:
        """Return the DDR side as a view (batch, blocks, runs, bytes of a run)."""
        beat = self.config.axi_data_bytes
        for name in ("offset", "run_stride", "block_stride"):
            if getattr(transfer, name) % beat:
                raise SimulationError(f"{name} is no multiple of axi_data_bytes = {beat}")
        memory = state.segments[transfer.segment]
        run_bytes = transfer.run_beats * beat
        last = (transfer.offset + (transfer.blocks - 1) * transfer.block_stride
                + (transfer.runs - 1) * transfer.run_stride + run_bytes)
        if last > memory.shape[1]:
            raise SimulationError(f"reaches byte {last} of segment {transfer.segment}, which has "
                                  f"{memory.shape[1]}")
        return as_strided(
            memory[:, transfer.offset:],
            (memory.shape[0], transfer.blocks, transfer.runs, run_bytes),
            (memory.strides[0], transfer.block_stride, transfer.run_stride, 1),
        )

    def _load(self, state: State, load: Load) -> None:
        data = self._runs(state, load)
        flat = np.ascontiguousarray(data).reshape(data.shape[0], -1).view(np.int8)
        if load.target == Target.FEATURE:
            values = flat.reshape(-1, *self._transfer_shape(load))
            self._write(state, values, load.destination, load.group_stride, load.row_stride)
            return
        if len(flat) > 1:
            raise SimulationError("only constants can be loaded as weights, parameters or table "
                                  "when a batch is simulated")
        memory = {Target.WEIGHT: state.weight, Target.PARAMETER: state.parameter,
                  Target.TABLE: state.table}[Target(load.target)]
        rest = memory[load.destination:].reshape(-1).view(np.int8)
        if load.target == Target.TABLE and (load.destination or flat.size != 256):
            raise SimulationError("a table is 256 bytes at destination 0")
        if flat.size > rest.size:
            raise SimulationError(f"{flat.size} bytes pass the end of the buffer: {rest.size} left")
        rest[:flat.size] = flat[0]

    def _store(self, state: State, store: Store) -> None:
        groups, rows, width, _ = self._transfer_shape(store)
        values = self._read(state, store.source, store.group_stride, store.row_stride,
                            groups, (0, rows), (0, width))
        runs = self._runs(state, store)
        runs[...] = values.reshape(runs.shape).view(np.uint8)

    def _transfer_shape(self, transfer: Load | Store) -> tuple[int, int, int, int]:
        beats = transfer.blocks * transfer.runs * transfer.run_beats
        region = transfer.groups * transfer.rows * transfer.row_beats
        if beats != region:
            raise SimulationError(f"{beats} beats of DDR do not fill {region} beats of features")
        width = transfer.row_beats * self.config.words_per_beat
        return transfer.groups, transfer.rows, width, self.config.lanes

    # Feature buffer

    def _words(self, state: State, bank: int, start: int, strides: tuple[int, int],
               shape: tuple[int, ...]) -> NDArray[np.int8]:
        """Return a view (batch, groups, rows, columns, lanes) of every second pixel in one bank."""
        last = start + sum((n - 1) * s for n, s in zip(shape, (*strides, 1), strict=True))
        if last >= self.config.feature_depth:
            raise SimulationError(f"reaches address {last} of the feature buffer, feature_depth "
                                  f"is {self.config.feature_depth}")
        lanes = self.config.lanes
        return as_strided(
            state.feature[:, bank, start:], (state.batch, *shape, lanes),
            (state.feature.strides[0], strides[0] * lanes, strides[1] * lanes, lanes, 1),
        )

    def _write(self, state: State, values: NDArray[np.int8], base: int, group_stride: int,
               row_stride: int, top: int = 0, left: int = 0) -> None:
        """Write (batch, groups, rows, columns, lanes) at row `top`, column `left` of a region."""
        for y in range(top, top + min(2, values.shape[2])):
            for x in range(left, left + min(2, values.shape[3])):
                part = values[:, :, y - top::2, x - left::2]
                start = base + (y >> 1) * row_stride + (x >> 1)
                self._words(state, bank_of(y, x), start, (group_stride, row_stride),
                            part.shape[1:4])[...] = part

    def _read(self, state: State, base: int, group_stride: int, row_stride: int, groups: int,
              rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.int8]:
        """Return (batch, groups, rows, columns, lanes) of the half-open row and column ranges."""
        height, width = rows[1] - rows[0], columns[1] - columns[0]
        result = np.empty((state.batch, groups, height, width, self.config.lanes), np.int8)
        for y in range(rows[0], rows[0] + min(2, height)):
            for x in range(columns[0], columns[0] + min(2, width)):
                part = result[:, :, y - rows[0]::2, x - columns[0]::2]
                start = base + (y >> 1) * row_stride + (x >> 1)
                part[...] = self._words(state, bank_of(y, x), start, (group_stride, row_stride),
                                        part.shape[1:4])
        return result

    def _windows(self, state: State, step: Matrix | Post, base: int, group_stride: int,
                 row_stride: int, dtype: type[Any]) -> NDArray[Any]:
        """Return a view (batch, out y, out x, group, ky, kx, lane) of the padded input (im2col)."""
        spans = []
        for origin, outputs, stride, kernel, dilation in (
            (step.origin_y, step.out_height, step.stride_y, step.kernel_height, step.dilation_y),
            (step.origin_x, step.out_width, step.stride_x, step.kernel_width, step.dilation_x),
        ):
            spans.append((origin, origin + (outputs - 1) * stride + (kernel - 1) * dilation + 1))
        (top, bottom), (left, right) = spans
        shape = (state.batch, step.groups, bottom - top, right - left, self.config.lanes)
        padded = np.full(shape, step.pad_value, dtype)
        rows = max(top, 0), min(bottom, step.height)
        columns = max(left, 0), min(right, step.width)
        if rows[0] < rows[1] and columns[0] < columns[1]:
            padded[:, :, rows[0] - top:rows[1] - top, columns[0] - left:columns[1] - left] = (
                self._read(state, base, group_stride, row_stride, step.groups, rows, columns))
        batch, group, row, column, lane = padded.strides
        return as_strided(
            padded,
            (state.batch, step.out_height, step.out_width, step.groups, step.kernel_height,
             step.kernel_width, self.config.lanes),
            (batch, row * step.stride_y, column * step.stride_x, group, row * step.dilation_y,
             column * step.dilation_x, lane),
        )

    # Matrix and Post

    def _matrix(self, state: State, matrix: Matrix) -> None:
        rows = matrix.groups * matrix.kernel_height * matrix.kernel_width * self.config.rows
        pixels = matrix.out_height * matrix.out_width
        weights = state.weight[matrix.weights:matrix.weights + rows]
        if len(weights) < rows:
            raise SimulationError(f"reads {rows} words from word {matrix.weights} of the weight "
                                  f"buffer, weight_depth is {self.config.weight_depth}")
        entries = self._entries(state, matrix.accumulator_bank, matrix.accumulator_base, pixels)
        windows = self._windows(state, matrix, matrix.source, matrix.group_stride,
                                matrix.row_stride, np.float32)
        columns = windows.reshape(state.batch * pixels, rows)
        total = np.zeros((len(columns), self.config.cols), np.int32)
        for start in range(0, rows, EXACT_DEPTH):
            part = slice(start, start + EXACT_DEPTH)
            total += (columns[:, part] @ weights[part].astype(np.float32)).astype(np.int32)
        total = total.reshape(entries.shape)
        entries[...] = entries + total if matrix.accumulate else total

    def _entries(self, state: State, bank: int, base: int, pixels: int) -> NDArray[np.int32]:
        """Return a view (batch, pixels, cols) of an accumulator bank."""
        if base + pixels > self.config.accumulator_depth:
            raise SimulationError(f"{pixels} pixels from entry {base} pass accumulator_depth = "
                                  f"{self.config.accumulator_depth}")
        return state.accumulator[:, bank, base:base + pixels]

    def _post(self, state: State, post: Post) -> None:
        lanes, cols = self.config.lanes, self.config.cols
        height, width = post.out_height, post.out_width
        if post.source == Source.ACCUMULATOR:
            if post.groups > self.config.groups_per_tile:
                raise SimulationError(f"groups passes cols / lanes = {self.config.groups_per_tile}")
            entries = self._entries(state, post.accumulator_bank, post.accumulator_base,
                                    height * width)
            values = entries.reshape(state.batch, height, width, -1, lanes)[..., :post.groups, :]
        else:
            windows = self._windows(state, post, post.window, post.window_group_stride,
                                    post.window_row_stride, np.int32)
            reduce = np.max if post.source == Source.MAXIMUM else np.sum
            values = reduce(windows, axis=(4, 5)).astype(np.int32)
        if post.parameters % cols:
            raise SimulationError(f"parameters is no multiple of cols = {cols}")
        records = state.parameter[post.parameters:post.parameters + cols]
        wide = self.config.parameter_bytes == 16
        record = np.ascontiguousarray(records).view(np.dtype({
            "names": ["bias", "multiplier", "shift"], "offsets": [0, 4, 8 if wide else 6],
            "formats": ["<i4", "<u4" if wide else "<u2", "u1"],
            "itemsize": self.config.parameter_bytes,
        })).reshape(-1)
        channel = np.arange(post.groups * lanes).reshape(post.groups, lanes) % cols
        bias, multiplier, shift = (record[name][channel].astype(np.int64)
                                   for name in ("bias", "multiplier", "shift"))
        rounding = Rounding(post.rounding)
        result = requantize(
            values.astype(np.int64) + bias, multiplier, shift, rounding=rounding,
            multiplier_bits=self.config.multiplier_bits, zero_point=post.zero_point,
            clip_min=post.clip_min, clip_max=post.clip_max,
        )
        if post.add_enable:
            residual = self._read(
                state, post.residual, post.residual_group_stride, post.residual_row_stride,
                post.groups, (post.residual_y, post.residual_y + height),
                (post.residual_x, post.residual_x + width),
            )
            result = add(
                result, residual.transpose(0, 2, 3, 1, 4), rounding=rounding,
                multiplier_first=post.add_multiplier,
                multiplier_second=post.add_residual_multiplier,
                offset=post.add_offset, shift=post.add_shift, zero_point=post.add_zero_point,
                clip_min=post.add_clip_min, clip_max=post.add_clip_max,
            )
        if post.table_enable:
            result = state.table[result.view(np.uint8)]
        self._write(state, result.transpose(0, 3, 1, 2, 4), post.destination,
                    post.destination_group_stride, post.destination_row_stride,
                    post.destination_y, post.destination_x)


def _take_tokens(tokens: NDArray[np.int64], instruction: Instruction) -> None:
    """Consume and send the tokens of an instruction; `tokens` is indexed (from, to)."""
    own = cast(Unit, instruction.unit)
    for unit in Unit:
        if instruction.wait >> unit & 1:
            if not tokens[unit, own]:
                raise SimulationError(f"waits for a token of {unit.name.lower()} that no earlier "
                                      "instruction sends")
            tokens[unit, own] -= 1
    for unit in Unit:
        if instruction.signal >> unit & 1:
            tokens[own, unit] += 1
            if tokens[own, unit] > MAX_TOKENS:
                raise SimulationError(f"more than {MAX_TOKENS} tokens to {unit.name.lower()}")


def _tensor_bytes(config: AcceleratorConfig, info: TensorInfo) -> int:
    channels, height, width = info.shape
    return feature_tensor_bytes(config, height, width, channels)


def _end(config: AcceleratorConfig, tensors: Sequence[TensorInfo]) -> int:
    """Return the bytes of a segment that holds `tensors`."""
    return max((info.offset + _tensor_bytes(config, info) for info in tensors), default=0)
