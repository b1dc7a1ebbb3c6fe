"""The matrix unit with real buffers around it, instruction for instruction against NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from numpy.typing import NDArray

from pliant.spec.config import PRESETS, AcceleratorConfig
from pliant.spec.isa import Matrix
from pliant.spec.memory import pass_words
from pliant.spec.numerics import WEIGHT_MAX, WEIGHT_MIN
from pliant.spec.sampling import Offsets
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY, Accumulators
from pliant_hw.array import ArrayFactory, MatrixArray
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.dsp import DSP48E1, DSP48E2
from pliant_hw.feature_buffer import FeatureBuffer
from pliant_hw.matrix import MatrixUnit
from pliant_hw.packed_array import packed
from pliant_sim.benches.golden import Features, OffsetStore, run_matrix
from pliant_sim.benches.simulate import payload, simulate

TINY = dataclasses.replace(PRESETS["tiny"], feature_depth=64, weight_depth=256,
                           accumulator_depth=32)
WIDE = dataclasses.replace(TINY, cols=16, axi_data_bytes=4)  # four beats are a row of weights
EIGHT = dataclasses.replace(TINY, rows=8)  # two cascades of DSP48E1
DEEP = dataclasses.replace(TINY, feature_depth=4096)  # addresses wider than coordinates
ALL_BANKS = 0b1111


class System:
    """A matrix unit, its three buffers, and a rival with priority at the feature buffer."""

    def __init__(
        self, config: AcceleratorConfig, seed: int, array: ArrayFactory = MatrixArray
    ) -> None:
        self.config = config
        self.random = random = np.random.default_rng(seed)
        self.features = Features(config, random)
        self.weights = random.integers(
            WEIGHT_MIN, WEIGHT_MAX, (config.weight_depth, config.cols), np.int8, endpoint=True)
        self.expected = np.zeros((2, config.accumulator_depth, config.cols), np.int32)
        self.store = OffsetStore(config)
        self.module = m = Module()
        self.buffer: Any = FeatureBuffer(
            config=config, readers=["rival", "matrix"], writers=["fill"])
        m.submodules.buffer = self.buffer
        m.submodules.weight = self.memory = BeatMemory(
            config=config, word_bytes=config.cols, depth=config.weight_depth)
        m.submodules.accumulators = self.accumulators = Accumulators(config=config)
        m.submodules.unit = self.unit = unit = MatrixUnit(config=config, array=array)
        wiring.connect(m, unit.feature, self.buffer.read_matrix)
        m.d.comb += [
            self.memory.read_enable.eq(unit.weight_enable),
            self.memory.address.eq(unit.weight_address),
            unit.weight_data.as_value().eq(self.memory.data),
            self.accumulators.add_valid.eq(unit.add_valid),
            self.accumulators.add_bank.eq(unit.add_bank),
            self.accumulators.add_entry.eq(unit.add_entry),
            self.accumulators.add_overwrite.eq(unit.add_overwrite),
            self.accumulators.sums.eq(unit.sums),
        ]

    def run(
        self, instructions: Sequence[Matrix], rival: float = 0.0
    ) -> tuple[int, NDArray[np.int32]]:
        """Return the cycles from the first word to the last, and the accumulators.

        The rival reads random banks in a share `rival` of the cycles.
        """
        completed = 0
        active: list[int] = []
        result = np.zeros_like(self.expected)

        async def main(ctx: Any) -> None:
            await self._fill(ctx)
            for instruction in instructions:
                ctx.set(self.unit.instruction.payload, payload(instruction))
                ctx.set(self.unit.instruction.valid, 1)
                await ctx.tick().until(self.unit.instruction.ready)
            ctx.set(self.unit.instruction.valid, 0)
            while completed < len(instructions):
                await ctx.tick()
            assert not ctx.get(self.unit.busy)
            await self._read(ctx, result)

        async def watch(ctx: Any) -> None:
            nonlocal completed
            cycle = 0
            async for _, _, done, busy in ctx.tick().sample(self.unit.done, self.unit.active):
                cycle += 1
                completed += done
                if busy:
                    active.append(cycle)

        async def disturb(ctx: Any) -> None:
            port = self.buffer.read_rival
            while True:
                ctx.set(port.valid, int(self.random.random() < rival))
                ctx.set(port.mask, int(self.random.integers(16)))
                await ctx.tick()

        simulate(self.module, main, background=[watch, disturb])
        assert completed == len(instructions)
        return active[-1] - active[0] + 1, result

    async def _fill(self, ctx: Any) -> None:
        fill, weight = self.buffer.write_fill, self.memory.write
        ctx.set(fill.valid, 1)
        ctx.set(fill.mask, ALL_BANKS)
        for address in range(self.config.feature_depth):
            ctx.set(fill.address, [address] * 4)
            ctx.set(fill.data, [int.from_bytes(self.features.words[bank, address].tobytes(),
                                               "little") for bank in range(4)])
            await ctx.tick()
        ctx.set(fill.valid, 0)
        ctx.set(weight.valid, 1)
        beats = self.weights.reshape(-1, self.config.axi_data_bytes)
        for address, beat in enumerate(beats):
            ctx.set(weight.address, address)
            ctx.set(weight.data, int.from_bytes(beat.tobytes(), "little"))
            await ctx.tick()
        ctx.set(weight.valid, 0)

    async def _read(self, ctx: Any, result: NDArray[np.int32]) -> None:
        port, lanes = self.accumulators, self.config.lanes
        ctx.set(port.read_valid, 1)
        for bank, entry, group in np.ndindex(
                2, self.config.accumulator_depth, self.config.groups_per_tile):
            ctx.set(port.read_bank, bank)
            ctx.set(port.read_entry, entry)
            ctx.set(port.read_group, group)
            await ctx.tick().repeat(ACCUMULATOR_READ_LATENCY)
            values = [ctx.get(port.values[lane]) for lane in range(lanes)]
            result[bank, entry, group * lanes:(group + 1) * lanes] = values


def random_instruction(config: AcceleratorConfig, random: np.random.Generator) -> Matrix:
    """Return an instruction of which about a fifth of the positions are padding."""
    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    height, width = pick(1, 9), pick(1, 9)
    groups, kernel_height, kernel_width = pick(1, 3), pick(1, 3), pick(1, 3)
    row_stride = (width + 1) // 2 + pick(0, 1)
    if random.random() < 0.3:  # fewer pixels than a pass has cycles
        out_height, out_width = 1, pick(1, config.rows - 1)
    else:
        out_height, out_width = pick(1, 5), pick(1, 6)
    last = config.accumulator_depth - out_height * out_width
    narrow = pick(0, 1)
    words = pass_words(config, narrow=bool(narrow)) * groups * kernel_height * kernel_width
    return Matrix(
        source=pick(0, config.feature_depth - 1), row_stride=row_stride,
        group_stride=pick(0, 40), height=height, width=width,
        origin_y=pick(-4, 3), origin_x=pick(-4, 3), groups=groups,
        kernel_height=kernel_height, kernel_width=kernel_width,
        dilation_y=pick(1, 3), dilation_x=pick(1, 3),
        stride_y=pick(1, 3), stride_x=pick(1, 3),
        out_height=out_height, out_width=out_width, pad_value=pick(-128, 127),
        weights=pick(0, config.weight_depth - words), accumulator_bank=pick(0, 1),
        accumulator_base=pick(0, last), accumulate=pick(0, 1), narrow_weights=narrow,
    )


@pytest.mark.parametrize(("seed", "config", "rival", "array"), [
    (0, TINY, 0.0, MatrixArray), (1, TINY, 0.5, MatrixArray), (2, TINY, 0.9, MatrixArray),
    (3, WIDE, 0.5, MatrixArray),
    (4, TINY, 0.3, packed(DSP48E1)), (5, TINY, 0.0, packed(DSP48E2)),
    (6, WIDE, 0.5, packed(DSP48E2)), (7, EIGHT, 0.3, packed(DSP48E1)),
])
def test_random_instructions_equal_numpy(
    seed: int, config: AcceleratorConfig, rival: float, array: ArrayFactory
) -> None:
    print(f"{seed=}")
    system = System(config, seed, array)
    everything = Matrix(kernel_height=1, out_height=4, out_width=8)  # entries get a value
    instructions = [dataclasses.replace(everything, accumulator_bank=bank) for bank in range(2)]
    instructions += [random_instruction(config, system.random) for _ in range(25)]
    _, result = system.run(instructions, rival)
    for instruction in instructions:
        run_matrix(config, instruction, system.features, system.weights, system.expected)
    np.testing.assert_array_equal(result, system.expected)


def displaced(
    instruction: Matrix, config: AcceleratorConfig, random: np.random.Generator
) -> Matrix:
    """Return the instruction with offsets of its own."""
    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    offsets = Offsets(pick(1, 3))
    kernel = [pick(0, 1) * 2 + 1 if offsets is Offsets.SCALED else size for size in
              (instruction.kernel_height, instruction.kernel_width)]
    low, high = sorted((pick(-128, 127), pick(-128, 127)))
    taps = kernel[0] * kernel[1]
    offset_groups = 1 if offsets is Offsets.SCALED else -(-2 * taps // config.lanes)
    regions = {
        f"{name}_{what}": pick(0, most) for name in ("offset", "mask") for what, most in (
            ("source", config.feature_depth - 1), ("group_stride", 40), ("row_stride", 8),
            ("y", 5), ("x", 5))}
    return dataclasses.replace(
        instruction, offsets=offsets, kernel_height=kernel[0], kernel_width=kernel[1],
        interpolate=pick(0, 3) > 0, offset_shift=pick(0, 4), offset_load=1,
        offset_min=low, offset_max=high, offset_groups=offset_groups,
        mask_groups=-(-taps // config.lanes), **regions)


@pytest.mark.parametrize(("seed", "config", "rival"), [
    (0, TINY, 0.0), (1, TINY, 0.6), (2, EIGHT, 0.3), (3, DEEP, 0.0)])
def test_random_displaced_instructions_equal_numpy(
    seed: int, config: AcceleratorConfig, rival: float
) -> None:
    print(f"{seed=}")
    system = System(config, seed)
    everything = Matrix(kernel_height=1, out_height=4, out_width=8)  # entries get a value
    instructions = [dataclasses.replace(everything, accumulator_bank=bank) for bank in range(2)]
    for _ in range(12):
        instruction = random_instruction(config, system.random)
        instructions.append(instruction)
        instructions.append(displaced(instruction, config, system.random))
        if system.random.random() < 0.5:  # once more, by the same offsets
            instructions.append(dataclasses.replace(
                instructions[-1], offset_load=0, accumulate=1,
                source=int(system.random.integers(config.feature_depth))))
    _, result = system.run(instructions, rival)
    for instruction in instructions:
        instruction.check(config)
        run_matrix(config, instruction, system.features, system.weights, system.expected,
                   system.store)
    np.testing.assert_array_equal(result, system.expected)


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_stalled_passes_of_few_pixels_keep_every_partial_sum(pixels: int) -> None:
    system = System(TINY, pixels)
    instruction = Matrix(height=8, width=8, row_stride=4, kernel_height=3, kernel_width=5,
                         out_width=pixels)
    _, result = system.run([instruction], rival=0.8)
    run_matrix(TINY, instruction, system.features, system.weights, system.expected)
    np.testing.assert_array_equal(result[0, :pixels], system.expected[0, :pixels])


@pytest.mark.parametrize("rival", [0.0, 1.0])
def test_an_accumulating_instruction_continues_on_the_entry_written_last(rival: float) -> None:
    system = System(TINY, 0)
    first = Matrix(height=8, width=8, row_stride=4, out_height=4, out_width=4)
    instructions = [first] + [
        dataclasses.replace(first, accumulate=1, accumulator_base=base, weights=base)
        for base in (15, 14, 15, 12)]
    instructions += [
        dataclasses.replace(first, accumulate=1, accumulator_base=base, weights=base,
                            out_height=1, out_width=5)  # the next weights are there in time
        for base in range(0, 24, 4)]
    _, result = system.run(instructions, rival)
    for instruction in instructions:
        run_matrix(TINY, instruction, system.features, system.weights, system.expected)
    np.testing.assert_array_equal(result[0, :28], system.expected[0, :28])


@pytest.mark.parametrize("rival", [0.0, 1.0])
def test_every_instruction_of_one_pixel_has_its_own_weights(rival: float) -> None:
    system = System(TINY, 0)
    instructions = [
        Matrix(height=8, width=8, row_stride=4, weights=TINY.rows * entry, accumulator_base=entry)
        for entry in range(TINY.accumulator_depth)]
    _, result = system.run(instructions, rival)
    for instruction in instructions:
        run_matrix(TINY, instruction, system.features, system.weights, system.expected)
    np.testing.assert_array_equal(result[0], system.expected[0])
@pytest.mark.parametrize("pixels", [1, 4, 7])
@pytest.mark.parametrize("kernel", [1, 2])
def test_the_width_of_weights_may_change_with_every_instruction(pixels: int, kernel: int) -> None:
    system = System(TINY, pixels)
    first = Matrix(height=8, width=8, row_stride=4, kernel_width=kernel, out_width=pixels)
    widths = (1, 0, 0, 1, 1, 0, 1)
    instructions = [
        dataclasses.replace(first, narrow_weights=narrow, weights=3 * place, origin_y=place,
                            accumulator_base=pixels * place % 16, accumulator_bank=place // 4)
        for place, narrow in enumerate(widths)]
    _, result = system.run(instructions)
    for instruction in instructions:
        run_matrix(TINY, instruction, system.features, system.weights, system.expected)
    written = system.expected != 0
    assert written.sum() > len(widths) * TINY.cols // 2
    np.testing.assert_array_equal(result[written], system.expected[written])


def test_narrow_weights_are_every_int4_in_both_halves() -> None:
    system = System(TINY, 0)
    values = np.arange(-8, 8)
    columns = [np.roll(values, shift)[:TINY.cols] for shift in range(TINY.rows * 4)]
    for word, (low, high) in enumerate(zip(columns[::2], columns[1::2], strict=True)):
        system.weights[word] = ((low & 15) | (high & 15) << 4).astype(np.uint8).view(np.int8)
    instruction = Matrix(height=8, width=8, row_stride=4, kernel_height=2, kernel_width=2,
                         out_width=5, narrow_weights=1)
    _, result = system.run([instruction])
    features = system.features
    expected = np.zeros((5, TINY.cols), np.int64)
    for x, tap, row in np.ndindex(5, 4, TINY.rows):
        word = features.words[features.place(0, 0, 4, 0, tap // 2, x + tap % 2)]
        expected[x] += int(word[row]) * columns[tap * TINY.rows + row]
    np.testing.assert_array_equal(result[0, :5], expected)


@pytest.mark.parametrize(("pixels", "cycles_per_pass"),
                         [((4, 5), 20), ((1, 5), 5), ((1, 3), 4), ((1, 2), 4), ((1, 1), 4)])
@pytest.mark.parametrize("narrow", [0, 1])
def test_a_pass_takes_its_pixels_or_the_rows_of_its_weights(
    pixels: tuple[int, int], cycles_per_pass: int, narrow: int
) -> None:
    system = System(TINY, 0)
    instruction = Matrix(height=8, width=8, row_stride=4, kernel_height=2, kernel_width=2,
                         out_height=pixels[0], out_width=pixels[1], groups=2,
                         narrow_weights=narrow)
    cycles, _ = system.run([instruction] * 3)
    passes = 3 * 8
    expected = (passes - 1) * cycles_per_pass + pixels[0] * pixels[1]
    if pixels[0] * pixels[1] > TINY.rows:
        assert cycles == expected
    else:  # with as few as 4 rows the queues around the walker show between instructions
        assert expected <= cycles <= expected + 4


@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP, Offsets.MODULATED])
def test_displaced_words_come_as_fast_as_plain_ones(offsets: Offsets) -> None:
    plain = Matrix(height=8, width=8, row_stride=4, kernel_height=3, kernel_width=3,
                   origin_y=-1, origin_x=-1, out_height=5, out_width=5, groups=2)
    bent = dataclasses.replace(
        plain, offsets=offsets, interpolate=1, offset_shift=1, offset_min=-128, offset_max=127,
        offset_groups=5, mask_groups=3, offset_row_stride=4, mask_row_stride=4)
    cycles = {}
    for name, instruction in (("plain", plain), ("bent", bent)):
        cycles[name], _ = System(TINY, 0).run([instruction] * 2)
    assert cycles["plain"] == cycles["bent"] == 2 * 18 * 25


def test_a_copy_of_offsets_costs_its_words() -> None:
    instruction = Matrix(
        height=8, width=8, row_stride=4, kernel_height=3, kernel_width=3, out_height=5,
        out_width=5, offsets=Offsets.MODULATED, interpolate=1, offset_max=127, offset_groups=5,
        mask_groups=3, offset_row_stride=4, mask_row_stride=4, offset_load=1)
    cycles, _ = System(TINY, 0).run([instruction] * 2)
    words = (5 + 3) * 25
    assert 2 * 9 * 25 + words < cycles <= 2 * 9 * 25 + words + 40
