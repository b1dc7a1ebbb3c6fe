"""Manifests of bitstreams, and cores identified by their fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pliant.driver.faults import DriverError, HardwareMismatchError
from pliant.driver.manifest import (
    BitstreamManifest,
    ManifestError,
    identify_configuration,
    load_manifest,
)
from pliant.spec.config import PRESETS, preset
from pliant.spec.registers import REGISTERS

CUSTOM = dataclasses.replace(preset("ultra96"), name="mine", weight_depth=2048)


def make(**changes: object) -> BitstreamManifest:
    values = {"board": "ultra96", "config": CUSTOM, "clock_mhz": 187.5, "tool": "Vivado 2024.1"}
    return BitstreamManifest(**(values | changes))  # type: ignore[arg-type]


def core_of(fingerprint: int) -> Callable[[int], int]:
    address = REGISTERS["fingerprint"].address
    return {address: fingerprint & 0xFFFF_FFFF, address + 4: fingerprint >> 32}.__getitem__


def test_a_manifest_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "pliant.json"
    for manifest in (make(), make(bitstream_sha256="ab" * 32)):
        manifest.save(path)
        assert load_manifest(path) == manifest


def test_a_manifest_belongs_to_one_bitstream(tmp_path: Path) -> None:
    path = tmp_path / "pliant.bit"
    path.write_bytes(b"bits")
    make(bitstream_sha256=hashlib.sha256(b"bits").hexdigest()).require_bitstream(path)
    path.write_bytes(b"bats")
    with pytest.raises(ManifestError, match="not of one build"):
        make(bitstream_sha256=hashlib.sha256(b"bits").hexdigest()).require_bitstream(path)
    with pytest.raises(ManifestError):
        make().require_bitstream(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "other"}, "format is 'other'"),
    ({"isa_version": 99}, "instruction set version 99.*build the bitstream again"),
    ({"fingerprint": "0"}, "not that of its configuration"),
    ({"config": {"name": "x"}}, "damaged"),
    ({"clock_mhz": "fast"}, "damaged"),
])
def test_damaged_manifests_are_refused_by_name(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "pliant.json"
    make().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestError, match=f"pliant.json.*{message}"):
        load_manifest(path)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pliant.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DriverError, match="not a bitstream manifest"):
        load_manifest(path)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_identified(name: str) -> None:
    assert identify_configuration(core_of(preset(name).fingerprint)) == preset(name)


def test_other_cores_are_identified_by_their_manifest_alone() -> None:
    assert identify_configuration(core_of(CUSTOM.fingerprint), make()) == CUSTOM
    with pytest.raises(HardwareMismatchError, match=r"no preset's.*give the configuration"):
        identify_configuration(core_of(CUSTOM.fingerprint))
    with pytest.raises(HardwareMismatchError, match="the manifest describes 'mine'"):
        identify_configuration(core_of(preset("tiny").fingerprint), make())
