"""Instruction-level simulator: what each instruction does, in program order, vectorised.

Every instruction works on its whole tile at once. All images of a batch run side by side: feature
buffer, accumulators and activation segments have a leading batch axis, constants are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
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
    TABLE_BYTES,
    ceil_div,
    feature_tensor_bytes,
    narrow_rows,
    pack_features,
    pass_words,
    patch_grid,
    patch_taps,
    unpack_features,
)
from pliant.spec.numerics import Rounding, add, requantize
from pliant.spec.program import Program, Segment, TensorInfo
from pliant_sim.feature_memory import EXACT_DEPTH, FeatureMemory, Region, SimulationError

__all__ = ["InstructionSimulator", "RunResult", "SimulationError", "State"]

WORKING_SET_BYTES = 1 << 25
"""Memory that the images simulated side by side may take; more of them only leave the caches."""
POISON_SEED = 1
"""Buffers start with random bytes, so that a program that reads what it never wrote shows."""

_UNITS = [[unit for unit in Unit if mask >> unit & 1] for mask in range(1 << len(Unit))]
"""Units by mask, as in `wait` and `signal`."""


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
    """Memories of the machine; the first axis of activations is the batch.

    `weight` holds int8 values as float32, the operands of the matrix product; `records` is
    `parameter` read as numbers.
    """

    def __init__(self, config: AcceleratorConfig, program: Program, batch: int) -> None:
        random = np.random.default_rng(POISON_SEED)

        def poison(*shape: int) -> NDArray[np.int8]:
            return random.integers(-128, 128, shape, np.int8)

        lanes, cols = config.lanes, config.cols
        self.batch = batch
        initial = poison(FEATURE_BANKS, config.feature_depth, lanes)
        self.feature = FeatureMemory(config, batch, initial)
        self.weight = poison(config.weight_depth, cols).astype(np.float32)
        self.taps = poison(config.tap_depth, 4 * lanes)
        self.parameter = poison(config.parameter_depth, config.parameter_bytes).view(np.uint8)
        wide = config.parameter_bytes == 16
        self.records = self.parameter.view(np.dtype({
            "names": ["bias", "multiplier", "shift"], "offsets": [0, 4, 8 if wide else 6],
            "formats": ["<i4", "<u4" if wide else "<u2", "u1"],
            "itemsize": config.parameter_bytes})).reshape(-1)
        self.table = poison(TABLE_BYTES)
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
        batch = self._batch(program, inputs)
        instructions = program.decoded()
        if batch is None:
            return self._run(program, instructions, inputs, batched=False)
        step = self._images_at_once(program, instructions)
        parts = [
            self._run(program, instructions, [value[start:start + step] for value in inputs],
                      batched=True)
            for start in range(0, batch, step)
        ]
        return RunResult(
            [np.concatenate(several) for several in zip(*(p.outputs for p in parts), strict=True)],
            {name: np.concatenate([p.tensors[name] for p in parts]) for name in parts[0].tensors})

    def _images_at_once(self, program: Program, instructions: Sequence[Instruction]) -> int:
        unfolded = max((
            i.out_height * i.out_width * i.groups * i.kernel_height * i.kernel_width
            for i in instructions if isinstance(i, Matrix)), default=0) * self.config.rows * 4
        accumulators = 4 * ACCUMULATOR_BANKS * self.config.accumulator_depth * self.config.cols
        image = self.config.feature_bytes + accumulators + unfolded + program.scratch_bytes
        return max(1, WORKING_SET_BYTES // image)

    def _run(
        self, program: Program, instructions: Sequence[Instruction],
        inputs: Sequence[NDArray[np.int8]], *, batched: bool,
    ) -> RunResult:
        state = self.start(program, inputs)
        tokens = [[0] * len(Unit) for _ in Unit]
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
        return self.result(program, state, batched=batched)

    def _batch(self, program: Program, inputs: Sequence[NDArray[np.int8]]) -> int | None:
        """Check the inputs; return the number of images, None without a batch axis."""
        program.require(self.config)
        if len(inputs) != len(program.inputs):
            raise ValueError(f"program {program.network!r} takes {len(program.inputs)} inputs, "
                             f"not {len(inputs)}")
        batch = inputs[0].shape[:-3] if inputs else ()
        for info, value in zip(program.inputs, inputs, strict=True):
            shape = info.image_shape
            if value.dtype != np.int8 or value.shape != (*batch, *shape) or len(batch) > 1:
                raise ValueError(f"input {info.name!r} must be int8 {shape}, alone or in "
                                 f"batches, not {value.dtype} {value.shape}")
        return batch[0] if batch else None

    def start(self, program: Program, inputs: Sequence[NDArray[np.int8]]) -> State:
        """Return the state before the first instruction; raises as :meth:`run` does."""
        batch = self._batch(program, inputs)
        state = State(self.config, program, 1 if batch is None else batch)
        segment = state.segments[Segment.INPUT]
        for info, value in zip(program.inputs, inputs, strict=True):
            for image, memory in zip(value.reshape(-1, *info.image_shape), segment, strict=True):
                packed = pack_features(self.config, info.arrange(image))
                memory[info.offset:info.offset + packed.size] = packed
        return state

    def result(self, program: Program, state: State, *, batched: bool) -> RunResult:
        """Return outputs and kept tensors of `state`."""
        def read(info: TensorInfo) -> NDArray[np.int8]:
            size = _tensor_bytes(self.config, info)
            memory = state.segments[info.segment][:, info.offset:info.offset + size]
            images = [info.restore(unpack_features(self.config, row, info.shape))
                      for row in memory]
            return np.stack(images) if batched else images[0]

        outputs = [read(info) for info in program.outputs]
        return RunResult(outputs, {info.name: read(info) for info in program.kept})

    def execute(self, state: State, instruction: Instruction) -> None:
        """Execute one instruction, tokens apart.

        Raises
        ------
        InstructionError
            A field passes what the configuration has, or fields disagree.
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
        memory = state.segments[transfer.segment]
        run_bytes = transfer.run_beats * beat
        last = (transfer.offset + (transfer.blocks - 1) * transfer.block_stride
                + (transfer.runs - 1) * transfer.run_stride + run_bytes)
        if last > memory.shape[1]:
            raise SimulationError(f"reaches byte {last} of segment {transfer.segment}, which has "
                                  f"{memory.shape[1]}")
        return np.ndarray(
            (memory.shape[0], transfer.blocks, transfer.runs, run_bytes), np.uint8, memory,
            transfer.offset, (memory.strides[0], transfer.block_stride, transfer.run_stride, 1))

    def _load(self, state: State, load: Load) -> None:
        data = self._runs(state, load)
        flat = np.ascontiguousarray(data).reshape(data.shape[0], -1).view(np.int8)
        if load.target == Target.FEATURE:
            values = flat.reshape(-1, *self._transfer_shape(load))
            region = Region(load.destination, load.group_stride, load.row_stride)
            state.feature.write(region, values)
            return
        if len(flat) > 1:
            raise SimulationError("only constants can be loaded as weights, taps, parameters or "
                                  "table when a batch is simulated")
        memories: dict[Target, NDArray[Any]] = {
            Target.WEIGHT: state.weight, Target.PARAMETER: state.parameter,
            Target.TABLE: state.table, Target.TAPS: state.taps}
        memory = memories[Target(load.target)]
        rest = memory[load.destination:].reshape(-1)
        if load.target == Target.TABLE and flat.size != TABLE_BYTES:
            raise SimulationError(f"a table is {TABLE_BYTES} bytes")
        if flat.size > rest.size:
            raise SimulationError(f"{flat.size} bytes pass the end of the buffer: {rest.size} left")
        rest[:flat.size] = flat[0]

    def _store(self, state: State, store: Store) -> None:
        groups, rows, width, _ = self._transfer_shape(store)
        region = Region(store.source, store.group_stride, store.row_stride)
        values = state.feature.read(region, groups, (0, rows), (0, width))
        runs = self._runs(state, store)
        runs[...] = values.reshape(runs.shape).view(np.uint8)

    def _transfer_shape(self, transfer: Load | Store) -> tuple[int, int, int, int]:
        beats = transfer.blocks * transfer.runs * transfer.run_beats
        region = transfer.groups * transfer.rows * transfer.row_beats
        if beats != region:
            raise SimulationError(f"{beats} beats of DDR do not fill {region} beats of features")
        width = transfer.row_beats * self.config.words_per_beat
        return transfer.groups, transfer.rows, width, self.config.lanes

    # Matrix and Post

    def _matrix(self, state: State, matrix: Matrix) -> None:
        passes = matrix.groups * matrix.kernel_height * matrix.kernel_width
        rows, narrow = passes * self.config.rows, bool(matrix.narrow_weights)
        pixels = matrix.out_height * matrix.out_width
        words = passes * pass_words(self.config, narrow=narrow)
        weights = state.weight[matrix.weights:matrix.weights + words]
        if len(weights) < words:
            raise SimulationError(f"reads {words} words from word {matrix.weights} of the weight "
                                  f"buffer, weight_depth is {self.config.weight_depth}")
        if narrow:
            weights = narrow_rows(weights.astype(np.int8)).astype(np.float32)
        entries = self._entries(state, matrix.accumulator_bank, matrix.accumulator_base, pixels)
        columns = state.feature.unfold(matrix)
        for start in range(0, rows, EXACT_DEPTH):
            part = slice(start, start + EXACT_DEPTH)
            total = (columns[:, part] @ weights[part]).reshape(entries.shape)
            if start or matrix.accumulate:
                entries += total.astype(np.int32)
            else:
                entries[...] = total

    def _entries(self, state: State, bank: int, base: int, pixels: int) -> NDArray[np.int32]:
        """Return a view (batch, pixels, cols) of an accumulator bank."""
        return state.accumulator[:, bank, base:base + pixels]

    def _post(self, state: State, post: Post) -> None:
        lanes, cols = self.config.lanes, self.config.cols
        height, width = post.out_height, post.out_width
        if post.source == Source.ACCUMULATOR:
            entries = self._entries(state, post.accumulator_bank, post.accumulator_base,
                                    height * width)
            values = entries.reshape(state.batch, height, width, -1, lanes)[..., :post.groups, :]
        elif post.offsets:
            values = state.feature.displaced(post, self._displaced_taps(state, post))
        elif post.source == Source.DEPTHWISE:
            values = state.feature.depthwise(post, self._taps(state, post))
        else:
            region = Region(post.window, post.window_group_stride, post.window_row_stride)
            windows = state.feature.windows(region, post, np.int32)
            reduce = np.max if post.source == Source.MAXIMUM else np.sum
            values = reduce(windows, axis=(4, 5)).astype(np.int32)
        distinct = post.groups * lanes if post.offsets else min(cols, post.groups * lanes)
        records = state.records[post.parameters:post.parameters + distinct]
        if len(records) < distinct:
            raise SimulationError(
                f"reads {distinct} records from record {post.parameters} of the parameter buffer, "
                f"parameter_depth is {self.config.parameter_depth}")
        if distinct < post.groups * lanes:
            records = np.tile(records, ceil_div(post.groups * lanes, cols))
        records = records[:post.groups * lanes].reshape(post.groups, lanes)
        bias, multiplier, shift = (records[name].astype(np.int64)
                                   for name in ("bias", "multiplier", "shift"))
        rounding = Rounding(post.rounding)
        result = requantize(
            values + bias, multiplier, shift, rounding=rounding,
            multiplier_bits=self.config.multiplier_bits, zero_point=post.zero_point,
            clip_min=post.clip_min, clip_max=post.clip_max,
        )
        if post.add_enable:
            region = Region(post.residual, post.residual_group_stride, post.residual_row_stride)
            residual = state.feature.read(
                region, post.groups, (post.residual_y, post.residual_y + height),
                (post.residual_x, post.residual_x + width))
            result = add(
                result, residual.transpose(0, 2, 3, 1, 4), rounding=rounding,
                multiplier_first=post.add_multiplier,
                multiplier_second=post.add_residual_multiplier,
                offset=post.add_offset, shift=post.add_shift, zero_point=post.add_zero_point,
                clip_min=post.add_clip_min, clip_max=post.add_clip_max,
            )
        if post.table_enable:
            result = state.table[result.view(np.uint8)]
        region = Region(post.destination, post.destination_group_stride,
                        post.destination_row_stride)
        words = result.transpose(0, 3, 1, 2, 4)
        if post.upsample:
            self._write_blocks(state, post, region, words)
        else:
            state.feature.write(region, words, post.destination_y, post.destination_x)

    def _write_blocks(
        self, state: State, post: Post, region: Region, words: NDArray[np.int8]
    ) -> None:
        """Write every word to the pixels of its block of 2x2 that `post` names."""
        top, left = post.destination_y, post.destination_x
        blocks = state.feature.read(
            region, post.groups, (top, top + 2 * post.out_height),
            (left, left + 2 * post.out_width)).copy()
        for pixel in range(4):
            if post.upsample >> pixel & 1:
                blocks[:, :, pixel >> 1::2, pixel & 1::2] = words
        state.feature.write(region, blocks, top, left)

    def _tap_words(self, state: State, post: Post, count: int) -> NDArray[np.int8]:
        words = state.taps[post.taps:post.taps + count]
        if len(words) < count:
            raise SimulationError(f"reads {count} words from word {post.taps} of the tap buffer, "
                                  f"tap_depth is {self.config.tap_depth}")
        return words

    def _displaced_taps(self, state: State, post: Post) -> NDArray[np.int8]:
        """Return the weights of an instruction with offsets: (groups, ky, kx, lanes)."""
        kernel = post.kernel_height, post.kernel_width
        words = self._tap_words(state, post, kernel[0] * kernel[1])
        return words.reshape(*kernel, FEATURE_BANKS, -1).transpose(2, 0, 1, 3)[:post.groups]

    def _taps(self, state: State, post: Post) -> NDArray[np.int8]:
        """Return the weights of a DEPTHWISE instruction: (groups, ky, kx, lanes)."""
        dilation = post.dilation_y, post.dilation_x
        high, wide = patch_taps(dilation[0]), patch_taps(dilation[1])
        rows, columns = patch_grid((post.kernel_height, post.kernel_width), dilation)
        words = self._tap_words(state, post, post.groups * rows * columns)
        patches = words.reshape(post.groups, rows, columns, 2, 2, -1)[:, :, :, :high, :wide]
        kernels = patches.transpose(0, 1, 3, 2, 4, 5).reshape(
            post.groups, rows * high, columns * wide, -1)
        return kernels[:, :post.kernel_height, :post.kernel_width]


def _take_tokens(tokens: list[list[int]], instruction: Instruction) -> None:
    """Consume and send the tokens of an instruction; `tokens` is indexed [from][to]."""
    own = cast(Unit, instruction.unit)
    for unit in _UNITS[instruction.wait]:
        if not tokens[unit][own]:
            raise SimulationError(f"waits for a token of {unit.name.lower()} that no earlier "
                                  "instruction sends")
        tokens[unit][own] -= 1
    for unit in _UNITS[instruction.signal]:
        tokens[own][unit] += 1
        if tokens[own][unit] > MAX_TOKENS:
            raise SimulationError(f"more than {MAX_TOKENS} tokens to {unit.name.lower()}")


def _tensor_bytes(config: AcceleratorConfig, info: TensorInfo) -> int:
    channels, height, width = info.shape
    return feature_tensor_bytes(config, height, width, channels)


def _end(config: AcceleratorConfig, tensors: Sequence[TensorInfo]) -> int:
    """Return the bytes of a segment that holds `tensors`."""
    return max((info.offset + _tensor_bytes(config, info) for info in tensors), default=0)
