"""The feature buffer against four arrays: random clients, masks and addresses."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np

from pliant.spec.config import FEATURE_BANKS
from pliant_hw.layouts import FEATURE_READ_LATENCY, feature_address_bits
from pliant_sim.benches.signals import Unit, generator, pack, unpack
from pliant_sim.benches.units import CONFIG, READERS, WRITERS

CYCLES = 4000
ADDRESS_BITS = feature_address_bits(CONFIG)
WORD_BITS = 8 * CONFIG.lanes
BUSY = (0.5, 0.9, 0.2)
"""How often each client asks."""

Read = tuple[str, int, int]  # client, bank, word


def granted(requests: dict[str, tuple[bool, int]]) -> dict[str, int]:
    """Return the banks that each client gets: those that no earlier one asks for."""
    claimed, result = 0, {}
    for name, (valid, mask) in requests.items():
        result[name] = mask & ~claimed if valid else 0
        claimed |= mask if valid else 0
    return result


@cocotb.test()
async def words_and_priorities_equal_four_arrays(dut: Any) -> None:
    """Every ready, and every word read, two cycles after its request."""
    unit, random = Unit(dut, "buffer"), generator()
    idle = {f"read_{name}_valid": 0 for name in READERS}
    await unit.start(**idle, **{f"write_{name}_valid": 0 for name in WRITERS})
    memory: dict[tuple[int, int], int] = {}
    expected: deque[list[Read]] = deque([[] for _ in range(FEATURE_READ_LATENCY)])
    compared = 0
    for cycle in range(CYCLES):
        for name, bank, word in expected.popleft():
            data = unpack(unit.read(f"read_{name}_data"), WORD_BITS, FEATURE_BANKS, signed=False)
            assert data[bank] == word, f"cycle {cycle}, {name}, bank {bank}"
            compared += 1
        banks: dict[str, dict[str, int]] = {}
        addresses: dict[str, list[int]] = {}
        words: dict[str, list[int]] = {}
        for kind, names in (("read", READERS), ("write", WRITERS)):
            requests = {}
            for name, busy in zip(names, BUSY, strict=False):
                port, mask = f"{kind}_{name}", int(random.integers(1 << FEATURE_BANKS))
                valid = bool(random.random() < busy)
                requests[name] = valid, mask
                # Few addresses, so that reads follow hard upon writes.
                low = int(random.integers(CONFIG.feature_depth - 5))
                addresses[port] = [low * (cycle % 3 == 0) + int(n)
                                   for n in random.integers(0, 6, FEATURE_BANKS)]
                unit.drive(**{f"{port}_valid": valid, f"{port}_mask": mask,
                              f"{port}_address": pack(addresses[port], ADDRESS_BITS)})
                if kind == "write":
                    words[name] = [int(n) for n in random.integers(0, 1 << 32, FEATURE_BANKS,
                                                                   np.int64)]
                    unit.drive(**{f"{port}_data": pack(words[name], WORD_BITS)})
            banks[kind] = granted(requests)
            await unit.settle()
            for name, (valid, mask) in requests.items():
                if valid:
                    place_name = f"cycle {cycle}, {kind} {name}"
                    given = banks[kind][name]
                    assert unit.read(f"{kind}_{name}_granted") == given, place_name
                    assert unit.read(f"{kind}_{name}_ready") == (given == mask), place_name
        written = {
            (bank, addresses[f"write_{name}"][bank]): words[name][bank]
            for name, given in banks["write"].items() for bank in range(FEATURE_BANKS)
            if given >> bank & 1}
        reads = []
        for name, given in banks["read"].items():
            for bank in range(FEATURE_BANKS):
                place = (bank, addresses[f"read_{name}"][bank])
                # A word that is written in the very cycle may be old or new.
                if given >> bank & 1 and place in memory and place not in written:
                    reads.append((name, bank, memory[place]))
        expected.append(reads)
        memory |= written
        await unit.tick()
    assert compared > CYCLES
