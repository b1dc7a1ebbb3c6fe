"""Records of lane groups: what is presented, and that fetching does not keep values waiting."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pliant.spec.config import PRESETS, AcceleratorConfig
from pliant.spec.memory import pack_parameters
from pliant_hw.parameters import ParameterUnit
from pliant_sim.benches.simulate import simulate

LATENCY = 6
"""Cycles from a claim to the presentation."""

TINY = dataclasses.replace(PRESETS["tiny"], parameter_depth=32)
CONFIGS = {
    "four words a group": TINY,
    "two words a group": dataclasses.replace(
        TINY, rows=8, cols=16, axi_data_bytes=16, multiplier_bits=16),
    "one tile a group": dataclasses.replace(TINY, cols=4, axi_data_bytes=4),
    "no offsets": dataclasses.replace(TINY, offset_depth=0),
}


@dataclass(frozen=True)
class Request:
    """What an instruction asks for; `turns` is how often groups together are presented each."""

    first: int
    groups: int
    turns: int = 0

    def shown(self, config: AcceleratorConfig) -> list[int]:
        """Return the first record of each group that is presented."""
        places = [group * config.lanes for group in range(self.groups)]
        if self.turns:
            return [self.first + place for place in places] * self.turns
        return [self.first + place % config.cols for place in places]


class System:
    """A unit, its records and what a post-processor would do with it."""

    def __init__(self, config: AcceleratorConfig, random: np.random.Generator) -> None:
        self.config = config
        self.unit = ParameterUnit(config=config)
        depth = config.parameter_depth
        self.records = {
            "bias": random.integers(-1 << 31, 1 << 31, depth),
            "multiplier": random.integers(0, 1 << config.multiplier_bits, depth),
            "shift": random.integers(0, 64, depth),
        }

    def run(
        self, requests: Sequence[Request], *, pause: int = 0, random: np.random.Generator,
    ) -> list[int]:
        """Present all groups, compare; return the cycle of each request's first claim.

        A claim waits for up to `pause` cycles where it need not.
        """
        unit, config = self.unit, self.config
        claims: list[int] = []
        shown: list[int] = []

        async def fill(ctx: Any) -> None:
            packed = pack_parameters(config, *self.records.values())
            ctx.set(unit.write.valid, 1)
            for address, beat in enumerate(packed.reshape(-1, config.axi_data_bytes)):
                ctx.set(unit.write.address, address)
                ctx.set(unit.write.data, int.from_bytes(beat.tobytes(), "little"))
                await ctx.tick()
            ctx.set(unit.write.valid, 0)
            for request in requests:
                ctx.set(unit.request.payload.first, request.first)
                ctx.set(unit.request.payload.groups, request.groups)
                if config.displaced_groups:
                    ctx.set(unit.request.payload.together, int(request.turns > 0))
                ctx.set(unit.request.valid, 1)
                await ctx.tick().until(unit.request.ready)
            ctx.set(unit.request.valid, 0)

        async def use(ctx: Any) -> None:
            steps = [(index, word, len(request.shown(config)), request)
                     for index, request in enumerate(requests)
                     for word in range(len(request.shown(config)))]
            coming: dict[int, int] = {}
            position, wait = 0, 0
            for cycle in itertools.count():
                if position == len(steps) and not coming:
                    break
                claim = 0
                wait = max(0, wait - 1)
                if position < len(steps) and not wait:
                    _, word, count, request = steps[position]
                    claim = int(word == 0 or not request.turns)
                    if not claim or ctx.get(unit.available):
                        coming[cycle + LATENCY] = int(not request.turns or word == count - 1)
                        if word == 0:
                            claims.append(cycle)
                        position += 1
                        wait = 1 + int(random.integers(0, pause + 1))
                    else:
                        claim = 0
                ctx.set(unit.claim, claim)
                ctx.set(unit.advance, int(cycle in coming))
                ctx.set(unit.release, coming.get(cycle, 0))
                await ctx.tick()
                if coming.pop(cycle, None) is not None:
                    shown.append(self._first(ctx))
            ctx.set(unit.advance, 0)

        simulate(unit, fill, use)
        assert shown == [first for request in requests for first in request.shown(config)]
        return claims

    def _first(self, ctx: Any) -> int:
        """Return the number of the first record presented; the others must follow it."""
        lanes = range(self.config.lanes)
        found = [{name: ctx.get(self.unit.parameters[lane][name]) for name in self.records}
                 for lane in lanes]
        first = int(np.flatnonzero(self.records["bias"] == found[0]["bias"])[0])
        assert found == [{name: int(values[first + lane]) for name, values in self.records.items()}
                         for lane in lanes]
        return first


def random_requests(
    config: AcceleratorConfig, random: np.random.Generator, count: int
) -> list[Request]:
    """Return requests of both kinds, if there are two."""
    requests = []
    for _ in range(count):
        first = int(random.integers(config.parameter_depth // config.cols)) * config.cols
        groups = int(random.integers(1, 12))
        if config.displaced_groups and random.integers(2):
            groups = int(random.integers(1, 5))
            groups = min(groups, (config.parameter_depth - first) // config.lanes)
            requests.append(Request(first, groups, int(random.integers(1, 5))))
        else:
            requests.append(Request(first, groups))
    return requests


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pause", [0, 3, 20])
def test_every_value_meets_the_records_of_its_lane_group(name: str, pause: int) -> None:
    seed = pause
    print(f"{seed=}")
    random = np.random.default_rng(seed)
    system = System(CONFIGS[name], random)
    requests = random_requests(CONFIGS[name], random, 40)
    system.run(requests, pause=pause, random=random)


def test_groups_together_follow_others_without_waiting() -> None:
    """Four lane groups, nine turns each: those of the next are there before they are needed."""
    random = np.random.default_rng(0)
    turns = 9
    claims = System(TINY, random).run(
        [Request(16 * (index % 2), 4, turns) for index in range(4)], random=random)
    assert np.diff(claims).tolist() == [4 * turns] * 3
