"""Cores identified by their fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pliant.driver.core import Core, identify_configuration
from pliant.driver.faults import HardwareMismatchError
from pliant.driver.manifest import Manifest
from pliant.spec.config import ISA_VERSION, PRESETS, preset
from pliant.spec.registers import (
    COMPLETION_CYCLES_BITS,
    COMPLETION_CYCLES_OFFSET,
    COUNTER_BASE,
    IDENTIFIER,
    REGISTERS,
    Interrupt,
)

CUSTOM = dataclasses.replace(preset("ultra96"), name="mine", weight_depth=2048)
MANIFEST = Manifest(board="ultra96", part="", core="", config=CUSTOM, generator="",
                    generator_version="", clock_mhz=200, sources={})


def core_of(
    fingerprint: int, identifier: int = IDENTIFIER, version: int = ISA_VERSION
) -> Callable[[int], int]:
    address = REGISTERS["fingerprint"].address
    return {
        REGISTERS["identifier"].address: identifier, REGISTERS["version"].address: version,
        address: fingerprint & 0xFFFF_FFFF, address + 4: fingerprint >> 32,
    }.__getitem__


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_identified(name: str) -> None:
    assert identify_configuration(core_of(preset(name).fingerprint)) == preset(name)


def test_other_cores_are_identified_by_their_manifest_alone() -> None:
    assert identify_configuration(core_of(CUSTOM.fingerprint), MANIFEST) == CUSTOM
    with pytest.raises(HardwareMismatchError, match=r"no preset's.*give the configuration"):
        identify_configuration(core_of(CUSTOM.fingerprint))
    with pytest.raises(HardwareMismatchError, match="the manifest of 'mine' needs"):
        identify_configuration(core_of(preset("tiny").fingerprint), MANIFEST)


def test_what_is_no_core_of_this_release_is_refused_before_its_fingerprint() -> None:
    with pytest.raises(HardwareMismatchError, match="this is no pliant core"):
        identify_configuration(core_of(0, identifier=0))
    with pytest.raises(HardwareMismatchError, match="different releases of pliant"):
        identify_configuration(core_of(0, version=ISA_VERSION + 1))


@pytest.mark.parametrize("event", [0, *Interrupt])
@pytest.mark.parametrize(("cycles", "accesses"), [
    (0, 1), (12345, 1), ((1 << COMPLETION_CYCLES_BITS) - 2, 1),
    ((1 << COMPLETION_CYCLES_BITS) - 1, 3), (1 << COMPLETION_CYCLES_BITS, 3), ((1 << 48) - 1, 3)])
def test_completion_takes_one_access_unless_the_cycles_do_not_fit(
    event: int, cycles: int, accesses: int
) -> None:
    class Counter:
        accesses = 0

        def read(self, offset: int) -> int:
            self.accesses += 1
            most = (1 << COMPLETION_CYCLES_BITS) - 1
            return {REGISTERS["completion"].address:
                    event | min(cycles, most) << COMPLETION_CYCLES_OFFSET,
                    COUNTER_BASE: cycles & 0xFFFF_FFFF, COUNTER_BASE + 4: cycles >> 32}[offset]

    counter = Counter()
    events, found = Core(counter).completion()  # type: ignore[arg-type]
    assert events == event
    assert found == cycles or not event
    assert counter.accesses == (accesses if event else 1)
