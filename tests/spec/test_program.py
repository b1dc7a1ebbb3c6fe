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
    ({"scratch_bytes": -1}, "scratch_bytes = -1 must be an integer of 0 to"),
    ({"scratch_bytes": 10**13}, "scratch_bytes = 10000000000000 must be"),
    ({"scratch_bytes": 1.5}, r"scratch_bytes = 1\.5 must be an integer"),
    ({"scratch_bytes": True}, "scratch_bytes = True must be an integer"),
    ({"network": ["net"]}, r"network = \['net'\] must be text"),
    ({"config": None}, "config = None must be text"),
    ({"fingerprint": "-1"}, "fingerprint = '-1' must be 16 hexadecimal digits"),
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


@pytest.mark.parametrize(("place", "value", "message"), [
    ("inputs.0.shape", [3, 8], "must be a list of 3"),
    ("inputs.0.shape.1", float("inf"), r"inputs\[0\]\.shape\[1\] = inf must be an integer of 1"),
    ("inputs.0.shape.1", 0, "must be an integer of 1"),
    ("outputs.0.shape", [70000, 70000, 70000], "at most"),
    ("outputs.0.segment", 4, r"outputs\[0\]\.segment = 4 must be an integer of 0 to 3"),
    ("outputs.0.offset", -64, r"outputs\[0\]\.offset = -64"),
    ("outputs.0.scale", float("nan"), r"outputs\[0\]\.scale = nan must be a positive number"),
    ("outputs.0.scale", 0, "must be a positive number"),
    ("outputs.0.zero_point", 128, "must be an integer of -128 to 127"),
    ("outputs.0.channels", [0, 4], r"outputs\[0\]\.channels\[1\] = 4 must be an integer of 0 to 3"),
    ("outputs.0.channels", [1, 1], "must be different channels"),
    ("outputs.0.name", {"a": 1}, "must be text"),
    ("inputs.0.unfolding", 0, "must be an object"),
    ("inputs.0.unfolding.stride", [0, 1], "must be an integer of 1"),
    ("inputs.0.unfolding.kernel", [1, 2], r"must make a tensor of the shape \(3, 8, 8\)"),
    ("inputs.0.unfolding.fill", 300, "must be an integer of -128 to 127"),
    ("layers.0.instructions", [[0, 10**30]], "must be an integer of 0 to 4"),
    ("layers.0.instructions", [[3, 1]], "must be an integer of 3 to 4"),
    ("layers.0.instructions", [[0, 2], [1, 3]], "must be instructions of this layer alone"),
    ("layers.0.macs", "many", "must be an integer"),
    ("layers.0.output.name", None, r"layers\[0\]\.output\.name = None must be text"),
])
def test_a_wrong_value_of_the_manifest_is_named(
    path: Path, place: str, value: object, message: str
) -> None:
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    *parents, last = place.split(".")
    item = manifest
    for name in parents:
        item = item[int(name) if name.isdigit() else name]
    item[int(last) if last.isdigit() else last] = value
    rewrite(path, **manifest)
    with pytest.raises(ProgramError, match=message):
        load_program(path)


def test_two_outputs_of_one_name_are_refused(path: Path, program: Program) -> None:
    dataclasses.replace(program, outputs=program.outputs * 2).save(path)
    with pytest.raises(ProgramError, match="outputs have the same name"):
        load_program(path)
