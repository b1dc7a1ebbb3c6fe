"""Cores identified by their fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pliant.driver.core import identify_configuration
from pliant.driver.faults import HardwareMismatchError
from pliant.driver.manifest import Manifest
from pliant.spec.config import ISA_VERSION, PRESETS, preset
from pliant.spec.registers import IDENTIFIER, REGISTERS

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
