"""The post-processor with real buffers around it, instruction for instruction against NumPy."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from numpy.typing import NDArray

from pliant.spec.config import FEATURE_BANKS, PRESETS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant.spec.memory import (
    ceil_div,
    pack_displaced_taps,
    pack_parameters,
    pack_taps,
    row_patches,
)
from pliant.spec.numerics import Rounding
from pliant.spec.sampling import Offsets
from pliant_hw.accumulators import Accumulators
from pliant_hw.feature_buffer import FeatureBuffer
from pliant_hw.post import PostProcessor
from pliant_sim.benches.golden import Features, run_post
from pliant_sim.benches.simulate import payload, simulate

TINY = dataclasses.replace(PRESETS["tiny"], feature_depth=128, parameter_depth=32,
                           accumulator_depth=32, tap_depth=512)
NARROW = dataclasses.replace(TINY, cols=4, axi_data_bytes=4, multiplier_bits=16)
WIDE = dataclasses.replace(TINY, cols=16, multiplier_bits=8)
PAIRS = dataclasses.replace(TINY, rows=8, cols=16, axi_data_bytes=16, multiplier_bits=16)
CONFIGS = {"31 bits, two groups": TINY, "16 bits, one group": NARROW, "8 bits, four groups": WIDE,
           "16 bits, two records in a beat": PAIRS}
ALL_BANKS = 0b1111
WINDOWS = [f"window_{bank}" for bank in range(FEATURE_BANKS)]

Rivals = Callable[[int], tuple[int, int]]
"""Banks (read, written) that rivals claim in a cycle."""


def no_rivals(cycle: int) -> tuple[int, int]:
    """Leave all banks free."""
    return 0, 0


def one_bank_read(cycle: int) -> tuple[int, int]:
    """Read one bank after the other."""
    return 1 << cycle % FEATURE_BANKS, 0


def as_integers(words: NDArray[Any]) -> list[int]:
    """Return each row of a 2-D array as a little-endian integer."""
    return [int.from_bytes(row.tobytes(), "little") for row in words]


class System:
    """A post-processor, its buffers, and rivals with priority at the feature buffer."""

    def __init__(self, config: AcceleratorConfig, seed: int) -> None:
        self.config = config
        self.random = random = np.random.default_rng(seed)
        self.features = Features(config, random)
        self.sums = random.integers(
            -1 << 17, 1 << 17, (2, config.accumulator_depth, config.cols), np.int32)
        depth = config.parameter_depth
        self.records = {
            "bias": random.integers(-1 << 16, 1 << 16, depth),
            "multiplier": random.integers(0, 1 << config.multiplier_bits, depth),
            "shift": random.integers(5, 14, depth) + config.multiplier_bits,
        }
        self.table = random.integers(-128, 128, 256, np.int8)
        self.taps = np.zeros((0, 4 * config.lanes), np.int8)
        self.weights: dict[Post, NDArray[np.int8]] = {}
        self.module = m = Module()
        self.buffer: Any = FeatureBuffer(
            config=config, readers=["rival", *WINDOWS], writers=["rival", "output"],
            write_port_readers=["residual"])
        m.submodules.buffer = self.buffer
        m.submodules.accumulators = self.accumulators = Accumulators(config=config)
        m.submodules.unit = self.unit = unit = PostProcessor(config=config)
        for name in WINDOWS:
            wiring.connect(m, getattr(unit, name), getattr(self.buffer, f"read_{name}"))
        wiring.connect(m, unit.residual, self.buffer.read_residual)
        wiring.connect(m, unit.output, self.buffer.write_output)
        m.d.comb += [
            self.accumulators.read_valid.eq(unit.read_valid),
            self.accumulators.read_bank.eq(unit.read_bank),
            self.accumulators.read_entry.eq(unit.read_entry),
            self.accumulators.read_group.eq(unit.read_group),
            unit.read_values.eq(self.accumulators.values),
        ]

    def depthwise(self, instruction: Post) -> Post:
        """Return `instruction` with random weights in the tap buffer."""
        shape = (instruction.groups * self.config.lanes, instruction.kernel_height,
                 instruction.kernel_width)
        weights = self.random.integers(-128, 128, shape, np.int8)
        if instruction.offsets:
            words = pack_displaced_taps(self.config, weights)
        else:
            words = pack_taps(
                self.config, weights, (instruction.dilation_y, instruction.dilation_x))
        instruction = dataclasses.replace(
            instruction, source=Source.DEPTHWISE, taps=len(self.taps))
        self.taps = np.concatenate([self.taps, words.reshape(-1, 4 * self.config.lanes)])
        assert len(self.taps) <= self.config.tap_depth
        self.weights[instruction] = weights
        return instruction

    def random_rivals(self, cycle: int) -> tuple[int, int]:
        """Claim random banks in half of the cycles."""
        read, write = self.random.integers(16, size=2) * self.random.integers(2, size=2)
        return int(read), int(write)

    def run(
        self, instructions: Sequence[Post], rivals: Rivals = no_rivals, *,
        new_table_at: int | None = None,
    ) -> list[int]:
        """Execute, check the feature buffer, return the busy cycles from completion to completion.

        Before instruction `new_table_at` is offered and when all but the one before are completed,
        another table is loaded.
        """
        busy_cycles = [0]
        running = False
        tables = [self.table] * len(instructions)
        if new_table_at is not None:
            changed = self.random.permutation(self.table)
            tables[new_table_at:] = [changed] * (len(instructions) - new_table_at)

        async def main(ctx: Any) -> None:
            nonlocal running
            await self._fill(ctx)
            running = True
            for index, instruction in enumerate(instructions):
                if index == new_table_at:
                    ctx.set(self.unit.instruction.valid, 0)
                    while len(busy_cycles) < index:
                        await ctx.tick()
                    await self._load_table(ctx, tables[index])
                ctx.set(self.unit.instruction.payload, payload(instruction))
                ctx.set(self.unit.instruction.valid, 1)
                await ctx.tick().until(self.unit.instruction.ready)
            ctx.set(self.unit.instruction.valid, 0)
            while len(busy_cycles) <= len(instructions):
                await ctx.tick()
            running = False
            await self._compare(ctx, instructions, tables)

        async def watch(ctx: Any) -> None:
            async for _, _, done, busy in ctx.tick().sample(self.unit.done, self.unit.busy):
                busy_cycles[-1] += busy
                if done:
                    busy_cycles.append(0)

        async def disturb(ctx: Any) -> None:
            read, write = self.buffer.read_rival, self.buffer.write_rival
            last = self.config.feature_depth - 1
            await ctx.tick().until(self.unit.instruction.valid)
            # Writes what is there already, at the end of the buffer.
            ctx.set(write.address, [last] * 4)
            ctx.set(write.data, as_integers(self.features.words[:, last]))
            for cycle in itertools.count():
                if not running:
                    break
                for port, mask in zip((read, write), rivals(cycle), strict=True):
                    ctx.set(port.valid, int(mask != 0))
                    ctx.set(port.mask, mask)
                await ctx.tick()
            ctx.set(write.valid, 0)

        simulate(self.module, main, background=[watch, disturb])
        assert busy_cycles.pop() == 0
        assert len(busy_cycles) == len(instructions)
        return busy_cycles

    async def _fill(self, ctx: Any) -> None:
        config, unit, sums = self.config, self.unit, self.accumulators
        records = pack_parameters(config, *self.records.values())
        parameters = as_integers(records.reshape(-1, config.axi_data_bytes))
        table = as_integers(self.table.reshape(-1, config.axi_data_bytes))
        taps = as_integers(self.taps.reshape(-1, config.axi_data_bytes))
        write = self.buffer.write_rival
        ctx.set(write.valid, 1)
        ctx.set(write.mask, ALL_BANKS)
        steps = max(config.feature_depth, len(parameters), len(table), len(taps),
                    2 * config.accumulator_depth)
        for step in range(steps + 1):
            address = min(step, config.feature_depth - 1)
            ctx.set(write.address, [address] * 4)
            ctx.set(write.data, as_integers(self.features.words[:, address]))
            for port, beats in ((unit.parameters, parameters), (unit.table, table),
                                (unit.taps, taps)):
                ctx.set(port.valid, int(step < len(beats)))
                if step < len(beats):
                    ctx.set(port.address, step)
                    ctx.set(port.data, beats[step])
            # An addition's sums come one cycle later; they are narrower than the accumulators.
            bank, entry = divmod(step, config.accumulator_depth)
            ctx.set(sums.add_valid, int(bank < 2))
            ctx.set(sums.add_bank, bank & 1)
            ctx.set(sums.add_entry, entry)
            ctx.set(sums.add_overwrite, 1)
            if 0 < step <= 2 * config.accumulator_depth:
                bank, entry = divmod(step - 1, config.accumulator_depth)
                for col in range(config.cols):
                    ctx.set(sums.sums[col], int(self.sums[bank, entry, col]))
            await ctx.tick()
        ctx.set(write.valid, 0)
        ctx.set(sums.add_valid, 0)

    async def _load_table(self, ctx: Any, table: NDArray[np.int8]) -> None:
        port = self.unit.table
        ctx.set(port.valid, 1)
        for address, beat in enumerate(
                as_integers(table.reshape(-1, self.config.axi_data_bytes))):
            ctx.set(port.address, address)
            ctx.set(port.data, beat)
            await ctx.tick()
        ctx.set(port.valid, 0)

    async def _compare(
        self, ctx: Any, instructions: Sequence[Post], tables: Sequence[NDArray[np.int8]]
    ) -> None:
        for instruction, table in zip(instructions, tables, strict=True):
            run_post(self.config, instruction, self.features, self.sums, self.records, table,
                     self.weights.get(instruction))
        read = self.buffer.read_rival
        await ctx.tick().repeat(2)  # the rivals have stopped
        ctx.set(read.valid, 1)
        ctx.set(read.mask, ALL_BANKS)
        for address in range(self.config.feature_depth):
            ctx.set(read.address, [address] * 4)
            await ctx.tick().repeat(2)
            found = [ctx.get(read.data[bank]) for bank in range(4)]
            assert found == as_integers(self.features.words[:, address]), f"{address=}"


def random_instruction(system: System) -> Post:
    """Return an instruction with every feature on or off, and regions anywhere."""
    config, random = system.config, system.random

    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    source = Source(pick(0, 3))
    width = pick(1, 7)
    out_height, out_width = pick(1, 3), pick(1, 4)
    groups = pick(1, config.groups_per_tile if source == Source.ACCUMULATOR else 5)
    clip, add_clip = (sorted(int(v) for v in random.integers(-128, 128, 2)) for _ in range(2))
    if pick(0, 1):
        clip = [-128, 127]
    last = config.accumulator_depth - out_height * out_width
    area = config.feature_depth // 2  # inputs below, outputs above
    upsample = pick(0, 1) and pick(1, 15)
    even = int(upsample > 0)
    instruction = Post(
        source=source, accumulator_bank=pick(0, 1), accumulator_base=pick(0, last),
        window=pick(0, 30), window_group_stride=pick(0, 3), window_row_stride=pick(1, 4),
        height=pick(1, 7), width=width, origin_y=pick(-3, 2), origin_x=pick(-3, 2),
        kernel_height=pick(1, 4), kernel_width=pick(1, 4),
        stride_y=pick(1, 3), stride_x=pick(1, 3), dilation_y=pick(1, 3), dilation_x=pick(1, 3),
        pad_value=pick(-128, 127), groups=groups, out_height=out_height, out_width=out_width,
        destination=area + pick(0, 20), destination_group_stride=6,
        destination_row_stride=pick(3, 4), destination_y=pick(0, 3) >> even << even,
        destination_x=pick(0, 3) >> even << even, upsample=upsample,
        parameters=config.cols * pick(0, config.parameter_depth // config.cols - 1),
        rounding=Rounding(pick(0, 2)), zero_point=pick(-128, 127),
        clip_min=clip[0], clip_max=clip[1],
        add_enable=pick(0, 1), residual=pick(0, 20), residual_group_stride=pick(0, 3),
        residual_row_stride=pick(1, 4), residual_y=pick(0, 3), residual_x=pick(0, 3),
        add_multiplier=pick(-256, 255), add_residual_multiplier=pick(-256, 255),
        add_offset=pick(-20000, 20000), add_shift=pick(0, 12), add_zero_point=pick(-128, 127),
        add_clip_min=add_clip[0], add_clip_max=add_clip[1], table_enable=pick(0, 1),
    )
    return system.depthwise(instruction) if source == Source.DEPTHWISE else instruction


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("conflicts", [False, True])
def test_random_instructions_equal_numpy(name: str, conflicts: bool) -> None:
    seed = 1
    print(f"{seed=}")
    system = System(CONFIGS[name], seed)
    instructions = [random_instruction(system) for _ in range(30)]
    assert {instruction.source for instruction in instructions} == set(Source)
    blocks = {instruction.upsample for instruction in instructions}
    assert 0 in blocks
    assert len(blocks) > 5
    system.run(instructions, system.random_rivals if conflicts else no_rivals)


def displaced_instruction(system: System, groups: int | None = None) -> Post:
    """Return a random depthwise instruction with offsets."""
    config, random = system.config, system.random

    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    offsets = Offsets(pick(Offsets.SCALED, Offsets.PER_TAP))
    kernel = [pick(1, 4) for _ in range(2)]
    channels = 1 if offsets == Offsets.SCALED else 2 * kernel[0] * kernel[1]
    groups = groups or pick(1, FEATURE_BANKS)
    low, high = sorted(int(v) for v in random.integers(-128, 128, 2))
    most = (config.parameter_depth - groups * config.lanes) // config.cols
    return system.depthwise(dataclasses.replace(
        random_instruction(system), kernel_height=kernel[0], kernel_width=kernel[1],
        window_group_stride=2 * pick(0, 1) + 1, groups=groups, add_enable=0,
        # Lane groups do not overlap: which one was written last would depend on the order.
        destination=config.feature_depth // 2 + pick(0, 15), destination_group_stride=17,
        parameters=config.cols * pick(0, most),
        offsets=offsets, offset_shift=pick(0, 4), offset_min=low, offset_max=high,
        offset_groups=pick(ceil_div(channels, config.lanes), config.displaced_groups)))


@pytest.mark.parametrize(("name", "conflicts"), [
    (name, bool(index % 2)) for index, name in enumerate(CONFIGS)])
def test_displaced_instructions_equal_numpy(name: str, conflicts: bool) -> None:
    """Runs of them, alone and between others."""
    seed = 2
    print(f"{seed=}")
    system = System(dataclasses.replace(CONFIGS[name], tap_depth=1024, feature_depth=256), seed)
    instructions: list[Post] = []
    while len(instructions) < 40:
        kind = random_instruction if system.random.integers(3) == 0 else displaced_instruction
        instructions.append(kind(system))
        assert not instructions[-1].check(system.config)
    displaced = [instruction for instruction in instructions if instruction.offsets]
    assert {instruction.groups for instruction in displaced} == {1, 2, 3, 4}
    assert len({instruction.offset_groups for instruction in displaced}) > 1
    system.run(instructions, system.random_rivals if conflicts else no_rivals)


def test_windows_with_residuals_begin_while_displaced_words_are_issued() -> None:
    """Windows of one tap and four words: patches queue up, those of the next instruction too."""
    seed = 3
    print(f"{seed=}")
    system = System(TINY, seed)
    instructions = []
    for _ in range(6):
        instructions.append(system.depthwise(dataclasses.replace(
            displaced_instruction(system, FEATURE_BANKS), kernel_height=1, kernel_width=1,
            offsets=Offsets.SCALED, out_height=6, out_width=4, upsample=0, destination=64,
            destination_group_stride=13, destination_row_stride=2, destination_y=0,
            destination_x=0, residual=10, residual_y=0)))
        instructions.append(dataclasses.replace(
            random_instruction(system), source=Source.SUM, add_enable=1, kernel_height=3,
            kernel_width=3, dilation_y=1, dilation_x=1))
    system.run(instructions)


def paired_instruction(system: System, kernel: tuple[int, int], stride: int) -> Post:
    """Return a depthwise instruction whose outputs are computed in pairs, at a border or inside."""
    random = system.random
    height, width = (int(v) for v in random.integers(1, 9, 2))
    top, left = (int(random.integers(-size, 2)) for size in kernel)
    random_post = random_instruction(system)
    return system.depthwise(dataclasses.replace(
        random_post, groups=int(random.integers(1, 4)), height=height, width=width, origin_y=top,
        origin_x=left, kernel_height=kernel[0], kernel_width=kernel[1], stride_x=stride,
        dilation_x=1, out_height=int(random.integers(1, 4)), out_width=int(random.integers(1, 6)),
        destination_group_stride=9, clip_min=-128, clip_max=127))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 1), (1, 3), (1, 4), (1, 5), (2, 2), (3, 3), (5, 5), (7, 7)])
def test_pairs_of_depthwise_outputs_equal_numpy(kernel: tuple[int, int], stride: int) -> None:
    seed = 10 * kernel[0] + kernel[1] + stride
    print(f"{seed=}")
    system = System(dataclasses.replace(PAIRS, tap_depth=2048), seed)
    system.features.words[:, ::3] = -128  # the products that pass the ends first
    instructions = [paired_instruction(system, kernel, stride) for _ in range(8)]
    assert any(instruction.out_width > 1 for instruction in instructions)
    system.run(instructions, system.random_rivals)


MORE_WORDS = 32


def marginal_cycles(features: dict[str, int], rivals: Rivals = no_rivals) -> tuple[int, int]:
    """Return the cycles that MORE_WORDS of output take, and those of twice as many alone."""
    system = System(dataclasses.replace(TINY, accumulator_depth=64), 0)

    def instruction(height: int) -> Post:
        post = Post(**{
            "out_height": height, "out_width": 4, "destination": 64, "destination_row_stride": 2,
            "destination_group_stride": 20, "residual_row_stride": 2, "groups": 2, "height": 24,
            "width": 8, "window_row_stride": 4, **features})
        return system.depthwise(post) if post.source == Source.DEPTHWISE else post

    first, short, long = system.run([instruction(8), instruction(8), instruction(12)], rivals)
    return long - short, first


KERNEL_2X2 = {"kernel_height": 2, "kernel_width": 2, "stride_y": 2, "stride_x": 2}
KERNEL_3X3 = {"kernel_height": 3, "kernel_width": 3, "origin_y": -1, "origin_x": -1}
WINDOW_SOURCES = [Source.MAXIMUM, Source.SUM, Source.DEPTHWISE]


@pytest.mark.parametrize("features", [
    {}, {"add_enable": 1}, {"upsample": 15, "destination_row_stride": 4},
    *({"source": source} for source in WINDOW_SOURCES)])
def test_one_word_enters_each_cycle(features: dict[str, int]) -> None:
    cycles, before = marginal_cycles(features)
    assert cycles == MORE_WORDS
    assert before < 2 * MORE_WORDS + 40


def patches_per_row(features: dict[str, int], outputs: int) -> int:
    """Return the patches of a row of windows."""
    post = Post(**features)
    return row_patches(
        (post.kernel_height, post.kernel_width), post.stride_x,
        (post.dilation_y, post.dilation_x), outputs, depthwise=post.source == Source.DEPTHWISE)


@pytest.mark.parametrize("source", WINDOW_SOURCES)
@pytest.mark.parametrize(("patches", "pairs", "features"), [
    (1, 1, KERNEL_2X2),
    (1, 1, {**KERNEL_2X2, "dilation_y": 3}),
    (2, 1, {"kernel_height": 2, "kernel_width": 3}),
    (2, 2, {**KERNEL_2X2, "dilation_x": 2}),
    (2, 1, {"kernel_height": 3, "kernel_width": 1}),
    (4, 2, KERNEL_3X3),
    (4, 2, {**KERNEL_3X3, "add_enable": 1}),
    (4, 3, {**KERNEL_3X3, "stride_y": 2, "stride_x": 2}),
    (4, 4, {**KERNEL_3X3, "stride_x": 3}),
    (4, 4, {**KERNEL_3X3, "dilation_x": 3}),
    (9, 9, {**KERNEL_3X3, "dilation_y": 2, "dilation_x": 2}),
    (16, 8, {"kernel_height": 7, "kernel_width": 7, "origin_y": -3, "origin_x": -3}),
])
def test_one_patch_enters_each_cycle(
    source: Source, patches: int, pairs: int, features: dict[str, int]
) -> None:
    features = {**features, "source": source}
    each = pairs if source == Source.DEPTHWISE else patches
    assert patches_per_row(features, 4) == 4 * each
    cycles, before = marginal_cycles(features)
    assert cycles == MORE_WORDS * each
    assert before < 2 * MORE_WORDS * each + 40


def test_residuals_are_read_between_the_words_written() -> None:
    cycles, _ = marginal_cycles({"source": Source.SUM, **KERNEL_2X2, "add_enable": 1})
    assert MORE_WORDS <= cycles <= MORE_WORDS + FEATURE_BANKS


@pytest.mark.parametrize(("source", "expected", "features"), [
    # A patch takes a word of each bank, and each bank is free in three of four cycles.
    *((source, MORE_WORDS * 4 // 3, KERNEL_2X2) for source in WINDOW_SOURCES),
    # Four patches take 9 words: of two neighbouring windows, at most 6 of a bank in 8 cycles.
    (Source.MAXIMUM, MORE_WORDS * 4, KERNEL_3X3),
    (Source.SUM, MORE_WORDS * 4, KERNEL_3X3),
    # Those of a pair take 12 words: of two rows of two pairs, 12 of each bank in 16 cycles.
    (Source.DEPTHWISE, MORE_WORDS * 2, KERNEL_3X3),
])
def test_patches_use_every_cycle_in_which_their_banks_are_free(
    source: Source, expected: int, features: dict[str, int]
) -> None:
    cycles, _ = marginal_cycles({"source": source, **features}, one_bank_read)
    assert abs(cycles - expected) <= FEATURE_BANKS  # the rival's phase


DISPLACED = {**KERNEL_3X3, "source": Source.DEPTHWISE, "groups": 4, "window_group_stride": 33,
             "residual": 140, "offset_shift": 4, "offset_min": -2, "offset_max": 2,
             "residual_group_stride": 17, "residual_row_stride": 2,
             "destination": 220, "destination_row_stride": 2, "destination_group_stride": 17}
"""A window of nine displaced taps for each of four lane groups."""

LARGE = dataclasses.replace(TINY, feature_depth=512)


@pytest.mark.parametrize("offsets", [
    {"offsets": Offsets.SCALED}, {"offsets": Offsets.PER_TAP, "offset_groups": 5}])
def test_a_displaced_tap_of_four_lane_groups_enters_each_cycle(offsets: dict[str, int]) -> None:
    system = System(LARGE, 0)
    instructions = [
        system.depthwise(Post(**{
            "height": 16, "width": 8, "window_row_stride": 4, "out_height": height, "out_width": 4,
            "parameters": 16 * (index % 2), **DISPLACED, **offsets}))
        for index, height in enumerate((8, 4, 8, 8))]
    before, *cycles = system.run(instructions)
    assert cycles == [9 * 4 * instruction.out_height + 3 for instruction in instructions[1:]]
    assert before < 9 * 32 + 60


def test_a_changed_table_is_copied_once() -> None:
    system = System(TINY, 0)
    cycles = system.run([Post(table_enable=1, destination=64)] * 2)
    assert cycles[0] > 256 > cycles[1]


def test_a_new_table_waits_for_the_words_that_still_use_the_old_one() -> None:
    system = System(TINY, 0)
    instructions = [Post(table_enable=enable, destination=destination, groups=2, out_height=3,
                         out_width=4, destination_row_stride=2, destination_group_stride=4)
                    for destination, enable in ((64, 1), (72, 1), (80, 0), (88, 1), (96, 1))]
    cycles = system.run(instructions, new_table_at=3)
    assert [count > 256 for count in cycles] == [True, False, False, True, False]


MORE = {"out_height": 8, "out_width": 4, "destination": 64, "destination_row_stride": 2,
        "destination_group_stride": 16, "residual_row_stride": 2, "groups": 2, "height": 16,
        "width": 8, "window_row_stride": 4}
"""64 words, more than the pipeline holds."""


@pytest.mark.parametrize(("lost", "features"), [
    (2, {}),
    (3, {"source": Source.MAXIMUM, **KERNEL_2X2}),
    (3, {"source": Source.DEPTHWISE, **KERNEL_3X3}),
    (2, {"add_enable": 1}),  # its first residual words are there
])
def test_an_instruction_follows_the_one_before_without_a_drain(
    lost: int, features: dict[str, int]
) -> None:
    system = System(TINY, 0)
    instructions = [Post(**{**MORE, **features, "parameters": records}) for records in (8, 0, 24)]
    if instructions[0].source == Source.DEPTHWISE:
        instructions = [system.depthwise(instruction) for instruction in instructions]
    first, second, third = system.run(instructions)
    words = 2 * 8 * patches_per_row(features, 4) if "source" in features else 2 * 8 * 4
    assert second == third == words + lost
    assert first < words + 40


def test_other_sources_follow_once_the_patches_are_read() -> None:
    system = System(TINY, 0)
    instructions = [Post(**{**MORE, "source": source, "parameters": 8 * (index % 4)})
                    for index, source in enumerate([Source.ACCUMULATOR, Source.SUM] * 3)]
    _, *cycles = system.run(instructions)
    assert max(cycles) <= 64 + 16


@pytest.mark.parametrize("words", [1, 2, 5, 20])
def test_short_instructions_wait_for_no_more_than_the_pipeline(words: int) -> None:
    system = System(TINY, 0)
    instructions = [Post(**{**MORE, "groups": 1, "out_height": 1, "out_width": words,
                            "destination_row_stride": 10, "destination": 64 + 10 * (index % 2)})
                    for index in range(6)]
    _, *cycles = system.run(instructions)
    assert max(cycles) <= max(words, 18) + 10
