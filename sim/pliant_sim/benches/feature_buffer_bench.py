"""The feature buffer against four arrays: random clients, masks and addresses."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np

from pliant.spec.config import FEATURE_BANKS
from pliant_hw.layouts import FEATURE_READ_LATENCY, feature_address_bits
from pliant_sim.benches.signals import Unit, generator, pack, unpack
from pliant_sim.benches.units import CONFIG, READERS, WRITE_PORT_READERS, WRITERS

CYCLES = 4000
ADDRESS_BITS = feature_address_bits(CONFIG)
WORD_BITS = 8 * CONFIG.lanes
PORTS = {
    "read": {f"read_{name}": busy for name, busy in zip(READERS, (0.5, 0.9, 0.2), strict=True)},
    "write": {
        **{f"write_{name}": busy for name, busy in zip(WRITERS, (0.3, 0.5), strict=True)},
        **{f"read_{name}": busy for name, busy in zip(WRITE_PORT_READERS, (0.5, 0.9), strict=True)},
    },
}
"""The clients of a bank's two ports, highest priority first, and how often each asks."""

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
    await unit.start(**{f"{client}_valid": 0 for clients in PORTS.values() for client in clients})
    memory: dict[tuple[int, int], int] = {}
    expected: deque[list[Read]] = deque([[] for _ in range(FEATURE_READ_LATENCY)])
    compared = dict.fromkeys((*READERS, *WRITE_PORT_READERS), 0)
    for cycle in range(CYCLES):
        for client, bank, word in expected.popleft():
            data = unpack(unit.read(f"{client}_data"), WORD_BITS, FEATURE_BANKS, signed=False)
            assert data[bank] == word, f"cycle {cycle}, {client}, bank {bank}"
            compared[client.removeprefix("read_")] += 1
        given: dict[str, int] = {}
        addresses: dict[str, list[int]] = {}
        words: dict[str, list[int]] = {}
        for clients in PORTS.values():
            requests = {}
            for client, busy in clients.items():
                mask = int(random.integers(1 << FEATURE_BANKS))
                valid = bool(random.random() < busy)
                requests[client] = valid, mask
                # Few addresses, so that reads follow hard upon writes.
                low = int(random.integers(CONFIG.feature_depth - 5))
                addresses[client] = [low * (cycle % 3 == 0) + int(n)
                                     for n in random.integers(0, 6, FEATURE_BANKS)]
                unit.drive(**{f"{client}_valid": valid, f"{client}_mask": mask,
                              f"{client}_address": pack(addresses[client], ADDRESS_BITS)})
                if client.startswith("write_"):
                    words[client] = [int(n) for n in random.integers(0, 1 << 32, FEATURE_BANKS,
                                                                     np.int64)]
                    unit.drive(**{f"{client}_data": pack(words[client], WORD_BITS)})
            given |= granted(requests)
            await unit.settle()
            for client, (valid, mask) in requests.items():
                if valid:
                    assert unit.read(f"{client}_granted") == given[client], f"{cycle}, {client}"
                    assert unit.read(f"{client}_ready") == (given[client] == mask), (
                        f"{cycle}, {client}")
        written = {
            (bank, addresses[client][bank]): words[client][bank]
            for client in words for bank in range(FEATURE_BANKS) if given[client] >> bank & 1}
        reads = []
        for client in given.keys() - words.keys():
            for bank in range(FEATURE_BANKS):
                place = (bank, addresses[client][bank])
                # A word that is written in the very cycle may be old or new.
                if given[client] >> bank & 1 and place in memory and place not in written:
                    reads.append((client, bank, memory[place]))
        expected.append(reads)
        memory |= written
        await unit.tick()
    assert min(compared.values()) > CYCLES // 20, compared
