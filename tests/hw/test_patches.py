"""Windows, plain and displaced, from the instruction to their words, against loops over pixels."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from numpy.typing import NDArray

from pliant.spec.config import DISPLACED_TAPS, FEATURE_BANKS, PRESETS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant.spec.memory import bank_of, ceil_div, patch_taps
from pliant.spec.sampling import FRACTION_BITS, Offsets, Sampling, displacement, rounded_position
from pliant_hw.layouts import FEATURE_READ_LATENCY
from pliant_hw.patches import PatchReader, PatchWalker
from pliant_hw.products import PATCH_TAPS
from pliant_hw.residual import ResidualReader
from pliant_sim.benches.simulate import payload, simulate

TINY = dataclasses.replace(PRESETS["tiny"], feature_depth=256)
CONFIGS = {
    "4 lanes": TINY,
    "16 lanes": dataclasses.replace(PRESETS["ultra96"], feature_depth=256),
    "32 lanes": dataclasses.replace(PRESETS["kv260"], feature_depth=256),
}
GAP = 4
"""Cycles from an instruction's last patch to the first of the next: 3 without a patch."""

Place = tuple[int, int]
"""Bank and address."""


@dataclasses.dataclass(frozen=True)
class Patch:
    """What is expected of a patch: places of its words, None outside; taps or lane groups."""

    present: int
    places: tuple[Place | None, ...]
    first: bool
    last: bool
    starts: bool
    starts_group: bool
    final: bool
    displaced: bool
    tap: int
    adding: bool


class Region:
    """Places of a region, and words of a memory there."""

    def __init__(self, post: Post, name: str) -> None:
        self._base, self._group_stride, self._row_stride = (
            getattr(post, field) for field in (name, f"{name}_group_stride", f"{name}_row_stride"))

    def place(self, group: int, y: int, x: int) -> Place:
        """Return where a pixel lies."""
        start = self._base + group * self._group_stride
        address = start + (y >> 1) * self._row_stride + (x >> 1)
        return bank_of(start, y, x), address % TINY.feature_depth


def pixels(post: Post) -> Iterator[tuple[int, int]]:
    """Yield the output pixels in order."""
    yield from itertools.product(range(post.out_height), range(post.out_width))


class System:
    """Walker, reader and residual reader on a memory with random contents and random stalls."""

    def __init__(self, config: AcceleratorConfig, seed: int, *, stall: float = 0.0,
                 residual_stall: float = 0.0) -> None:
        print(f"{seed=}")
        self.config = config
        self.random = np.random.default_rng(seed)
        self.words = self.random.integers(
            -128, 128, (FEATURE_BANKS, config.feature_depth, config.lanes), np.int8)
        self._stall, self._residual_stall = stall, residual_stall
        self.module = m = Module()
        m.submodules.walker = self.walker = PatchWalker(config=config)
        m.submodules.reader = self.reader = PatchReader(config=config)
        m.submodules.residuals = self.residuals = ResidualReader(config=config)
        wiring.connect(m, self.walker.request, self.reader.request)
        wiring.connect(m, self.residuals.offsets, self.walker.offsets)
        self.asked: list[list[int]] = [[] for _ in range(FEATURE_BANKS)]

    def word(self, place: Place) -> int:
        """Return a word of the memory."""
        return int.from_bytes(self.words[place].tobytes(), "little")

    def _offsets(self, post: Post, y: int, x: int) -> NDArray[np.int8]:
        region = Region(post, "residual")
        words = [self.words[region.place(group, post.residual_y + y, post.residual_x + x)]
                 for group in range(post.offset_groups)]
        channels: NDArray[np.int8] = np.concatenate(words)[:, None, None]
        return channels

    def displaced(self, post: Post) -> Iterator[Patch]:
        """Yield the patches of an instruction with offsets."""
        sampling = post.sampling()
        assert sampling is not None
        region = Region(post, "window")
        kernel = post.kernel_height, post.kernel_width
        taps = list(np.ndindex(*kernel))
        places = list(pixels(post))
        for (y, x), (number, (ky, kx)) in itertools.product(places, enumerate(taps)):
            moved = displacement(sampling, self._offsets(post, y, x), kernel, ky, kx)
            down, right = (int(rounded_position(by)[0, 0]) >> FRACTION_BITS for by in moved)
            row = post.origin_y + y * post.stride_y + ky * post.dilation_y + down
            column = post.origin_x + x * post.stride_x + kx * post.dilation_x + right
            inside = 0 <= row < post.height and 0 <= column < post.width
            opens = (y, x) == (0, 0)
            last = number == len(taps) - 1
            yield Patch(
                present=(1 << post.groups) - 1,
                places=tuple(region.place(group, row, column) if inside else None
                             for group in range(PATCH_TAPS)),
                first=number == 0, last=last, starts=opens, starts_group=opens,
                final=last and (y, x) == places[-1], displaced=True, tap=post.taps + number,
                adding=False)

    def plain(self, post: Post) -> Iterator[Patch]:
        """Yield the patches of a pooling."""
        region = Region(post, "window")
        high, wide = patch_taps(post.dilation_y), patch_taps(post.dilation_x)
        steps = list(itertools.product(
            range(0, post.kernel_height, high), range(0, post.kernel_width, wide)))
        count = len(steps)
        windows = list(itertools.product(range(post.groups), pixels(post)))
        for index, (group, (y, x)) in enumerate(windows):
            for number, (top, left) in enumerate(steps):
                present, places = 0, []
                for tap, (i, j) in enumerate(itertools.product(range(2), repeat=2)):
                    ky, kx = top + i, left + j
                    row = post.origin_y + y * post.stride_y + ky * post.dilation_y
                    column = post.origin_x + x * post.stride_x + kx * post.dilation_x
                    there = (i < high and j < wide
                             and ky < post.kernel_height and kx < post.kernel_width)
                    inside = 0 <= row < post.height and 0 <= column < post.width
                    present |= there << tap
                    places.append(region.place(group, row, column) if there and inside else None)
                yield Patch(
                    present=present, places=tuple(places), first=number == 0,
                    last=number == count - 1, starts=index == 0, starts_group=(y, x) == (0, 0),
                    final=index == len(windows) - 1 and number == count - 1, displaced=False,
                    tap=post.taps + group * count + number, adding=bool(post.add_enable))

    def patches(self, post: Post) -> list[Patch]:
        """Return what an instruction must yield."""
        return list(self.displaced(post) if post.offsets else self.plain(post))

    def run(self, instructions: Sequence[Post]) -> list[list[int]]:
        """Execute and check; return the cycles in which each instruction's patches came."""
        expected = [self.patches(post) for post in instructions]
        residuals = [
            Region(post, "residual").place(group, post.residual_y + y, post.residual_x + x)
            for post in instructions if post.add_enable
            for group, (y, x) in itertools.product(range(post.groups), pixels(post))]
        came: list[list[int]] = []
        owed = 0  # residual words claimed and not taken
        cycle = started = 0
        walker, patch, residual = self.walker, self.reader.patch, self.residuals

        async def read(ctx: Any) -> None:
            """Have words fetched for an instruction when the one before has started."""
            for index, post in enumerate(instructions):
                while started < index:
                    await ctx.tick()
                if post.offsets or post.add_enable:
                    ctx.set(residual.instruction.payload, payload(post))
                    ctx.set(residual.instruction.valid, 1)
                    await ctx.tick().until(residual.instruction.ready)
                    ctx.set(residual.instruction.valid, 0)

        async def start(ctx: Any) -> None:
            """Start an instruction two cycles after the one before is walked."""
            nonlocal started
            for post in instructions:
                ctx.set(walker.instruction, payload(post))
                ctx.set(walker.start, 1)
                started += 1
                finished = False
                while not finished:
                    _, _, finished = await ctx.tick().sample(walker.finished)
                    ctx.set(walker.start, 0)
                await ctx.tick()

        async def check(ctx: Any) -> None:
            nonlocal owed
            for patches in expected:
                came.append([])
                for one in patches:
                    taken = False
                    while not taken:
                        needed = one.adding and one.last
                        wants = self.random.random() >= self._stall
                        ready = wants and (not needed or ctx.get(residual.available) & 1)
                        ctx.set(patch.ready, int(ready))
                        taken = bool(ready and ctx.get(patch.valid))
                        found = ctx.get(patch.payload) if taken else None
                        ctx.set(residual.claim, int(taken and needed))
                        owed += taken and needed
                        await ctx.tick()
                    came[-1].append(cycle)
                    self._compare(one, found)
            ctx.set(patch.ready, 1)
            ctx.set(residual.claim, 0)
            while residuals:
                await ctx.tick()
            for _ in range(20):
                assert not ctx.get(patch.valid)
                await ctx.tick()

        async def use(ctx: Any) -> None:
            """Take claimed residual words some time later."""
            nonlocal owed
            while True:
                take = owed > 0 and self.random.random() < 0.4
                ctx.set(residual.take, int(take))
                if take:
                    assert ctx.get(residual.word) == self.word(residuals.pop(0))
                    owed -= 1
                await ctx.tick()

        async def count(ctx: Any) -> None:
            nonlocal cycle
            while True:
                await ctx.tick()
                cycle += 1

        simulate(self.module, read, start, check, background=[count, self._memory, use],
                 limit=60_000)
        wanted: list[list[int]] = [[] for _ in range(FEATURE_BANKS)]
        for one in itertools.chain.from_iterable(expected):
            for position, place in enumerate(one.places):
                if place is not None and one.present >> position & 1:
                    wanted[place[0]].append(place[1])
        assert self.asked == wanted
        return came

    def _compare(self, one: Patch, found: Any) -> None:
        patch = found.patch
        assert [patch[name] for name in (
            "present", "first", "last", "starts", "starts_group", "final", "displaced", "tap")] == [
            one.present, one.first, one.last, one.starts, one.starts_group, one.final,
            one.displaced, one.tap]
        if one.displaced:
            assert (patch.pair, patch.own, patch.previous) == (0, 1, patch.previous)
        for position, place in enumerate(one.places):
            if one.present >> position & 1:
                assert patch.inside >> position & 1 == (place is not None)
                if place is not None:
                    assert found.words[position] == self.word(place), f"{position=} of {one}"

    async def _memory(self, ctx: Any) -> None:
        """Answer all ports and note which addresses are asked for windows."""
        windows = [getattr(self.reader, f"feature_{bank}") for bank in range(FEATURE_BANKS)]
        ports = [*windows, self.residuals.feature]
        stalls = [*[self._stall] * len(windows), self._residual_stall]
        garbage = [(1 << 8 * self.config.lanes) - 1] * FEATURE_BANKS
        reading = [deque([garbage] * FEATURE_READ_LATENCY) for _ in ports]
        asked = [signal for port in ports for signal in (port.valid, port.mask, port.address)]
        while True:
            ready = self.random.random(len(ports)) >= stalls
            for port, is_ready, answers in zip(ports, ready, reading, strict=True):
                ctx.set(port.ready, int(is_ready))
                ctx.set(port.data, answers.popleft())
            _, _, *values = await ctx.tick().sample(*asked)
            for index, (valid, mask, address) in enumerate(
                    zip(values[::3], values[1::3], values[2::3], strict=True)):
                answer = list(garbage)
                if valid and ready[index]:
                    for bank in range(FEATURE_BANKS):
                        if mask >> bank & 1:
                            answer[bank] = self.word((bank, address[bank]))
                            if index < FEATURE_BANKS:
                                self.asked[bank].append(address[bank])
                reading[index].append(answer)


def offset_groups(config: AcceleratorConfig, offsets: Offsets, kernel: tuple[int, int]) -> int:
    """Return how many lane groups of offsets a kernel needs."""
    channels = Sampling(offsets=offsets).offset_channels(kernel)
    return ceil_div(channels, config.lanes)


def random_instruction(system: System, *, displaced: bool) -> Post:
    """Return an instruction with regions anywhere, so that windows overlap and wrap."""
    config, random = system.config, system.random

    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    offsets = Offsets(pick(1, 2)) if displaced else Offsets.NONE
    if offsets == Offsets.SCALED:
        kernel = 2 * pick(0, 3) + 1, 2 * pick(0, 3) + 1
    else:
        kernel = pick(1, 4), pick(1, 4)
    needed = offset_groups(config, offsets, kernel)
    clamps = sorted(pick(-128, 127) for _ in range(2)) if pick(0, 1) else [-128, 127]
    post = Post(
        source=Source.DEPTHWISE if displaced else (Source.MAXIMUM, Source.SUM)[pick(0, 1)],
        taps=pick(0, 7), window=pick(0, 63), window_group_stride=2 * pick(0, 20) + 1,
        window_row_stride=pick(1, 9), height=pick(1, 12), width=pick(1, 12),
        origin_y=pick(-5, 5), origin_x=pick(-5, 5),
        kernel_height=kernel[0], kernel_width=kernel[1], groups=pick(1, 4),
        stride_y=pick(1, 3), stride_x=pick(1, 3), dilation_y=pick(1, 3), dilation_x=pick(1, 3),
        out_height=pick(1, 4), out_width=pick(1, 4),
        residual=pick(0, 63), residual_group_stride=pick(0, 40), residual_row_stride=pick(1, 9),
        residual_y=pick(0, 3), residual_x=pick(0, 3), add_enable=0 if displaced else pick(0, 1),
        offsets=offsets, offset_shift=pick(0, FRACTION_BITS), offset_min=clamps[0],
        offset_max=clamps[1], offset_groups=min(needed + pick(0, 1), config.displaced_groups))
    post.check(config)
    return post


@pytest.mark.parametrize(("stall", "residual_stall"), [(0.0, 0.0), (0.4, 0.4), (0.0, 0.85)])
@pytest.mark.parametrize("name", CONFIGS)
def test_random_windows_read_what_loops_over_pixels_do(
    name: str, stall: float, residual_stall: float
) -> None:
    system = System(CONFIGS[name], seed=3, stall=stall, residual_stall=residual_stall)
    instructions = [random_instruction(system, displaced=system.random.random() < 0.7)
                    for _ in range(20)]
    kinds = {post.offsets for post in instructions}
    assert kinds == {Offsets.NONE, Offsets.SCALED, Offsets.PER_TAP}
    assert any(post.add_enable for post in instructions)
    assert {post.groups for post in instructions if post.offsets} == {1, 2, 3, 4}
    system.run(instructions)


@pytest.mark.parametrize(("offsets", "kernel"), [
    (Offsets.PER_TAP, (1, 1)), (Offsets.PER_TAP, (3, 3)), (Offsets.PER_TAP, (4, 4)),
    (Offsets.SCALED, (1, 1)), (Offsets.SCALED, (3, 3)), (Offsets.SCALED, (1, 7))])
@pytest.mark.parametrize("name", CONFIGS)
def test_displaced_taps_come_one_a_cycle(
    name: str, offsets: Offsets, kernel: tuple[int, int]
) -> None:
    """All are inside: words that are not there come sooner than those behind them."""
    system = System(CONFIGS[name], seed=5)
    post = Post(
        source=Source.DEPTHWISE, window_group_stride=33, window_row_stride=4, height=32, width=32,
        origin_y=8, origin_x=8,
        kernel_height=kernel[0], kernel_width=kernel[1], groups=4, out_height=4, out_width=5,
        residual_row_stride=3, residual_group_stride=10, offsets=offsets,
        offset_shift=2, offset_min=-8, offset_max=8,
        offset_groups=offset_groups(system.config, offsets, kernel))
    came = system.run([post] * 2)
    for cycles in came:
        assert cycles[-1] - cycles[0] == len(cycles) - 1
    for before, behind in itertools.pairwise(came):
        assert behind[0] - before[-1] == GAP


def test_kernels_of_the_spec_fit_the_offsets_that_are_held() -> None:
    for config in CONFIGS.values():
        assert config.displaced_groups * config.lanes >= 2 * DISPLACED_TAPS
