"""The post-processor with real buffers around it, instruction for instruction against NumPy."""

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
from pliant.spec.isa import Post, Source
from pliant.spec.memory import pack_parameters
from pliant.spec.numerics import Rounding
from pliant_hw.accumulators import Accumulators
from pliant_hw.feature_buffer import FeatureBuffer
from pliant_hw.post import PostProcessor
from pliant_sim.benches.golden import Features, run_post
from pliant_sim.benches.simulate import payload, simulate

TINY = dataclasses.replace(PRESETS["tiny"], feature_depth=128, parameter_depth=32,
                           accumulator_depth=32)
NARROW = dataclasses.replace(TINY, cols=4, axi_data_bytes=4, multiplier_bits=16)
WIDE = dataclasses.replace(TINY, cols=16, multiplier_bits=8)
PAIRS = dataclasses.replace(TINY, rows=8, cols=16, axi_data_bytes=16, multiplier_bits=16)
CONFIGS = {"31 bits, two groups": TINY, "16 bits, one group": NARROW, "8 bits, four groups": WIDE,
           "16 bits, two records in a beat": PAIRS}
ALL_BANKS = 0b1111


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
        self.module = m = Module()
        self.buffer: Any = FeatureBuffer(
            config=config, readers=["rival", "window", "residual"], writers=["rival", "output"])
        m.submodules.buffer = self.buffer
        m.submodules.accumulators = self.accumulators = Accumulators(config=config)
        m.submodules.unit = self.unit = unit = PostProcessor(config=config)
        wiring.connect(m, unit.window, self.buffer.read_window)
        wiring.connect(m, unit.residual, self.buffer.read_residual)
        wiring.connect(m, unit.output, self.buffer.write_output)
        m.d.comb += [
            self.accumulators.read_valid.eq(unit.read_valid),
            self.accumulators.read_bank.eq(unit.read_bank),
            self.accumulators.read_entry.eq(unit.read_entry),
            self.accumulators.read_group.eq(unit.read_group),
            unit.read_values.eq(self.accumulators.values),
        ]

    def run(self, instructions: Sequence[Post], rival: float = 0.0) -> list[int]:
        """Execute, check the feature buffer, return the busy cycles of each instruction.

        The rivals read and claim random banks in a share `rival` of the cycles.
        """
        busy_cycles = [0]
        running = False

        async def main(ctx: Any) -> None:
            nonlocal running
            await self._fill(ctx)
            running = True
            for instruction in instructions:
                ctx.set(self.unit.instruction.payload, payload(instruction))
                ctx.set(self.unit.instruction.valid, 1)
                await ctx.tick().until(self.unit.instruction.ready)
            ctx.set(self.unit.instruction.valid, 0)
            await ctx.tick().until(self.unit.done)
            running = False
            await self._compare(ctx, instructions)

        async def watch(ctx: Any) -> None:
            async for _, _, done, busy in ctx.tick().sample(self.unit.done, self.unit.busy):
                busy_cycles[-1] += busy
                if done:
                    busy_cycles.append(0)

        async def disturb(ctx: Any) -> None:
            read, write = self.buffer.read_rival, self.buffer.write_rival
            last = self.config.feature_depth - 1
            await ctx.tick().until(self.unit.instruction.valid)
            while running:
                ctx.set(read.valid, int(self.random.random() < rival))
                ctx.set(read.mask, int(self.random.integers(16)))
                # Writes what is there already, at the end of the buffer.
                ctx.set(write.valid, int(self.random.random() < rival))
                ctx.set(write.mask, int(self.random.integers(16)))
                ctx.set(write.address, [last] * 4)
                ctx.set(write.data, as_integers(self.features.words[:, last]))
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
        write = self.buffer.write_rival
        ctx.set(write.valid, 1)
        ctx.set(write.mask, ALL_BANKS)
        steps = max(config.feature_depth, len(parameters), len(table),
                    2 * config.accumulator_depth)
        for step in range(steps + 1):
            address = min(step, config.feature_depth - 1)
            ctx.set(write.address, [address] * 4)
            ctx.set(write.data, as_integers(self.features.words[:, address]))
            for port, beats in ((unit.parameters, parameters), (unit.table, table)):
                ctx.set(port.valid, int(step < len(beats)))
                ctx.set(port.address, min(step, len(beats) - 1))
                ctx.set(port.data, beats[min(step, len(beats) - 1)])
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

    async def _compare(self, ctx: Any, instructions: Sequence[Post]) -> None:
        for instruction in instructions:
            run_post(self.config, instruction, self.features, self.sums, self.records, self.table)
        read = self.buffer.read_rival
        await ctx.tick().repeat(2)  # the rivals have stopped
        ctx.set(read.valid, 1)
        ctx.set(read.mask, ALL_BANKS)
        for address in range(self.config.feature_depth):
            ctx.set(read.address, [address] * 4)
            await ctx.tick().repeat(2)
            found = [ctx.get(read.data[bank]) for bank in range(4)]
            assert found == as_integers(self.features.words[:, address]), f"{address=}"


def random_instruction(config: AcceleratorConfig, random: np.random.Generator) -> Post:
    """Return an instruction with every feature on or off, and regions anywhere."""
    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    source = Source(pick(0, 2))
    width = pick(1, 7)
    out_height, out_width = pick(1, 3), pick(1, 4)
    groups = pick(1, config.groups_per_tile if source == Source.ACCUMULATOR else 5)
    clip, add_clip = (sorted(int(v) for v in random.integers(-128, 128, 2)) for _ in range(2))
    if pick(0, 1):
        clip = [-128, 127]
    last = config.accumulator_depth - out_height * out_width
    area = config.feature_depth // 2  # inputs below, outputs above
    return Post(
        source=source, accumulator_bank=pick(0, 1), accumulator_base=pick(0, last),
        window=pick(0, 30), window_group_stride=pick(0, 3), window_row_stride=pick(1, 4),
        height=pick(1, 7), width=width, origin_y=pick(-3, 2), origin_x=pick(-3, 2),
        kernel_height=pick(1, 3), kernel_width=pick(1, 3),
        stride_y=pick(1, 3), stride_x=pick(1, 3), dilation_y=pick(1, 2), dilation_x=pick(1, 2),
        pad_value=pick(-128, 127), groups=groups, out_height=out_height, out_width=out_width,
        destination=area + pick(0, 20), destination_group_stride=6,
        destination_row_stride=pick(3, 4), destination_y=pick(0, 3), destination_x=pick(0, 3),
        parameters=config.cols * pick(0, config.parameter_depth // config.cols - 1),
        rounding=Rounding(pick(0, 2)), zero_point=pick(-128, 127),
        clip_min=clip[0], clip_max=clip[1],
        add_enable=pick(0, 1), residual=pick(0, 20), residual_group_stride=pick(0, 3),
        residual_row_stride=pick(1, 4), residual_y=pick(0, 3), residual_x=pick(0, 3),
        add_multiplier=pick(-256, 255), add_residual_multiplier=pick(-256, 255),
        add_offset=pick(-20000, 20000), add_shift=pick(0, 12), add_zero_point=pick(-128, 127),
        add_clip_min=add_clip[0], add_clip_max=add_clip[1], table_enable=pick(0, 1),
    )


@pytest.mark.parametrize(("name", "rival"), [*((name, 0.5) for name in CONFIGS),
                                             ("31 bits, two groups", 0.0)])
def test_random_instructions_equal_numpy(name: str, rival: float) -> None:
    seed = 1
    print(f"{seed=}")
    config = CONFIGS[name]
    system = System(config, seed)
    instructions = [random_instruction(config, system.random) for _ in range(25)]
    system.run(instructions, rival)


@pytest.mark.parametrize("features", [
    {}, {"add_enable": 1}, {"source": Source.MAXIMUM},
    {"source": Source.SUM, "kernel_height": 2, "kernel_width": 3, "add_enable": 1},
])
def test_one_word_or_window_position_enters_each_cycle(features: dict[str, int]) -> None:
    def instruction(height: int) -> Post:
        return Post(out_height=height, out_width=4, destination=64, destination_row_stride=2,
                    destination_group_stride=20, residual_row_stride=2, groups=2, height=8,
                    width=8, window_row_stride=4, **features)

    system = System(TINY, 0)
    short, long = system.run([instruction(2), instruction(8)])
    steps = 2 * 6 * 4 * instruction(1).kernel_height * instruction(1).kernel_width
    assert long - short == steps
    assert short < steps // 3 + 40


def test_a_changed_table_is_copied_once() -> None:
    system = System(TINY, 0)
    cycles = system.run([Post(table_enable=1, destination=64)] * 2)
    assert cycles[0] > 256 > cycles[1]
