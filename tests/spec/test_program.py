"""Program files: what is saved is loaded; damaged or foreign files are refused."""

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pliant.spec.config import preset
from pliant.spec.isa import End, Load
from pliant.spec.program import (
    LayerInfo,
    Program,
    ProgramError,
    Segment,
    TensorInfo,
    load_program,
)
from pliant.spec.unfolding import Unfolding

TINY = preset("tiny")


@pytest.fixture
def program() -> Program:
    constants = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    unfolding = Unfolding(shape=(1, 8, 8), kernel=(1, 3), stride=(1, 1), dilation=(1, 1),
                          before=(0, 1), size=(8, 8), fill=-3)
    image = TensorInfo(name="x", shape=(3, 8, 8), segment=Segment.INPUT, offset=0, scale=0.5,
                       zero_point=-3, unfolding=unfolding)
    result = TensorInfo(name="y", shape=(4, 8, 8), segment=Segment.OUTPUT, offset=64, scale=0.25,
                        zero_point=0)
    moved = dataclasses.replace(result, segment=Segment.SCRATCH, channels=(2, 0, 3))
    optional = {field.name: 7 for field in dataclasses.fields(LayerInfo)
                if field.name not in ("name", "kind", "macs", "instructions", "output")}
    layer = LayerInfo(name="conv", kind="convolution", macs=123, instructions=((0, 1), (2, 3)),
                      output=moved, **optional)  # type: ignore[arg-type]
    return Program(
        network="net", config_name="tiny", fingerprint=TINY.fingerprint,
        instructions=Load().encode() * 3 + End().encode(), constants=constants, scratch_bytes=640,
        inputs=(image,), outputs=(result,), layers=(layer,))


@pytest.fixture
def path(program: Program, tmp_path: Path) -> Path:
    program.save(tmp_path / "net.pliant")
    return tmp_path / "net.pliant"


def test_a_saved_program_is_loaded_unchanged(program: Program, path: Path) -> None:
    assert load_program(path, TINY) == program


def test_moved_channels_are_read_in_the_networks_order(program: Program) -> None:
    [info] = program.kept
    tensor = np.arange(4 * 8 * 8, dtype=np.uint8).view(np.int8).reshape(4, 8, 8)
    np.testing.assert_array_equal(info.restore(tensor), tensor[[2, 0, 3]])
    np.testing.assert_array_equal(program.outputs[0].restore(tensor), tensor)


def test_each_instruction_has_the_layer_whose_ranges_hold_it(program: Program) -> None:
    first = program.layers[0]
    second = dataclasses.replace(first, name="pool", instructions=((1, 2),))
    mixed = dataclasses.replace(program, layers=(first, second))
    assert list(first.indices()) == [0, 2]
    assert {index: layer.name for index, layer in mixed.owners.items()} == {
        0: "conv", 1: "pool", 2: "conv"}


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ProgramError, match=r"net\.pliant: "):
            load_program(path)


def test_no_corrupted_byte_changes_what_is_loaded(program: Program, path: Path) -> None:
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for position in rng.choice(len(data), 300, replace=False):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert load_program(path) == program  # a byte that the archive does not use
        except ProgramError:
            refused += 1
    assert refused > 250


def rewrite(path: Path, **changes: object) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"]) | changes
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(("changes", "message"), [
    ({"format": "other"}, "format is 'other'"),
    ({"isa_version": 99}, "made for instruction set version 99"),
    ({"sha256": {"instructions.bin": "0", "constants.bin": "0"}}, "does not match its SHA-256"),
    ({"layers": [{}]}, "manifest.json is damaged"),
    ({"layers": [{"name": "conv", "kind": "convolution", "macs": 1, "estimated_cycles": 1,
                  "instructions": [0, 1], "output": None}]}, "manifest.json is damaged"),
    ({"inputs": 5}, "manifest.json is damaged"),
])
def test_a_wrong_manifest_is_refused(
    path: Path, changes: dict[str, object], message: str
) -> None:
    rewrite(path, **changes)
    with pytest.raises(ProgramError, match=message):
        load_program(path)


def test_a_program_for_another_configuration_is_refused(path: Path) -> None:
    with pytest.raises(ProgramError) as caught:
        load_program(path, preset("kv260"))
    for part in ("'tiny'", "'kv260'", "compile it again with --config kv260"):
        assert part in str(caught.value)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_program(tmp_path / "none.pliant")


def test_a_program_is_shown_in_a_line(program: Program) -> None:
    assert repr(program) == ("<Program 'net' for 'tiny': 1 layers, "
                             f"{len(program.decoded())} instructions, 3000 bytes of constants>")
