"""`disasm`: text, layers and JSON of a program."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant.commands.disasm import disasm, listing
from pliant.spec.config import preset
from pliant.spec.isa import End, Instruction, Load, Matrix, Post, Store, Target, Unit
from pliant.spec.program import LayerInfo, Program

INSTRUCTIONS: tuple[Instruction, ...] = (
    Load(target=Target.WEIGHT, run_beats=8, signal=1 << Unit.MATRIX),
    Matrix(wait=1 << Unit.LOAD, signal=1 << Unit.POST, out_width=7, origin_x=-1, pad_value=-3),
    Post(wait=1 << Unit.MATRIX, signal=1 << Unit.STORE, out_width=7),
    Post(out_height=2),
    Store(wait=1 << Unit.POST, segment=3),
    End(),
)


@pytest.fixture
def program() -> Program:
    config = preset("tiny")
    return Program(
        network="net", config_name="tiny", fingerprint=config.fingerprint,
        instructions=b"".join(instruction.encode() for instruction in INSTRUCTIONS),
        constants=b"", scratch_bytes=0, inputs=(), outputs=(),
        layers=(LayerInfo(name="conv", kind="convolution", macs=84,
                          estimated_cycles=100, instructions=((0, 3),),
                          output=None),
                LayerInfo(name="pool", kind="maximum", macs=0,
                          estimated_cycles=100, instructions=((3, 5),), output=None)),
    )


def test_each_instruction_has_its_text_unit_tokens_and_layer(program):
    lines = disasm(program)
    assert [line.text for line in lines] == [str(instruction) for instruction in INSTRUCTIONS]
    assert [line.layer for line in lines] == ["conv"] * 3 + ["pool"] * 2 + [""]
    assert [line.unit for line in lines] == ["load", "matrix", "post", "post", "store", None]
    assert lines[1].wait == ("load",)
    assert lines[1].signal == ("post",)


def test_fields_of_every_line_encode_to_the_same_bytes(program):
    for line, instruction in zip(disasm(program), INSTRUCTIONS, strict=True):
        copy = type(instruction)(wait=instruction.wait, signal=instruction.signal, **line.fields)
        assert copy == instruction


def test_listing_names_the_layer_wherever_it_changes(program):
    first, second = program.layers
    mixed = dataclasses.replace(program, layers=(
        dataclasses.replace(first, instructions=((0, 1), (2, 3))),
        dataclasses.replace(second, instructions=((1, 2), (3, 5)))))
    lines = disasm(mixed)
    assert [line.layer for line in lines] == ["conv", "pool", "conv", "pool", "pool", ""]
    comments = [line for line in listing(mixed, lines).splitlines()[1:] if line.startswith(";")]
    assert comments == ["; conv: convolution, 84 MACs", "; pool: maximum, 0 MACs", "; conv",
                        "; pool", ";"]


def test_listing_names_each_layer_once_above_its_instructions(program):
    text = listing(program, disasm(program))
    assert text.count("; conv: convolution, 84 MACs") == 1
    assert text.index("; conv") < text.index("matrix wait=load") < text.index("; pool")


def test_command_prints_the_listing_or_json(program, tmp_path):
    path = tmp_path / "net.pliant"
    program.save(path)
    plain = CliRunner().invoke(main, ["disasm", str(path)])
    assert plain.exit_code == 0
    assert plain.stdout == listing(program, disasm(program)) + "\n"
    result = CliRunner().invoke(main, ["disasm", str(path), "--json"])
    data = json.loads(result.stdout)
    assert data["macs"] == 84
    assert [entry["index"] for entry in data["instructions"]] == list(range(len(INSTRUCTIONS)))
    assert data["instructions"][1]["fields"]["origin_x"] == -1
    assert data["instructions"][1]["signal"] == ["post"]


def test_illegal_bytes_in_a_program_are_named_by_index(program, tmp_path):
    damaged = dataclasses.replace(program, instructions=program.instructions + b"\x0f" + bytes(63))
    path = tmp_path / "net.pliant"
    damaged.save(path)
    result = CliRunner().invoke(main, ["disasm", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "instruction 6" in result.stderr
    assert result.stderr.count("\n") == 1
