"""Decoding gives back what was encoded, and refuses what no instruction is."""

import numpy as np
import pytest

from pliant.spec.decoding import decode, decode_each, decode_program
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    End,
    Instruction,
    InstructionError,
    Load,
    Post,
    Source,
    Target,
    fields,
)
from pliant.spec.numerics import Rounding


def random_instruction(rng: np.random.Generator, kind: type[Instruction]) -> Instruction:
    values = {field.name: int(rng.integers(field.minimum, field.maximum + 1))
              for field in fields(kind)}
    return kind(wait=int(rng.integers(16)), signal=int(rng.integers(16)), **values)


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_every_field_survives_encoding(kind: type[Instruction]) -> None:
    rng = np.random.default_rng(kind.opcode)
    instructions = [random_instruction(rng, kind) for _ in range(200)]
    data = [instruction.encode() for instruction in instructions]
    assert {len(item) for item in data} == {INSTRUCTION_BYTES}
    assert decode_program(b"".join(data)) == instructions
    assert decode(data[0]) == instructions[0]


@pytest.mark.parametrize(("data", "message"), [
    (bytes(64), "no instruction has opcode 0"),
    (b"\x0f" + bytes(63), "no instruction has opcode 15"),
    (End().encode()[:-1], "64 bytes, not 63"),
    (End().encode()[:-1] + b"\x01", "bits from 12 on must be zero"),
])
def test_bytes_that_are_no_instruction_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InstructionError, match=message):
        decode(data)


@pytest.mark.parametrize(("name", "value"), [("run_beats", 0), ("rows", 0), ("target", 7)])
def test_field_values_out_of_range_are_refused_among_legal_ones(name: str, value: int) -> None:
    legal = Load(run_beats=5, target=Target.TAPS, signal=2)
    field = next(field for field in fields(Load) if field.name == name)
    word = int.from_bytes(legal.encode(), "little")
    word &= ~(((1 << field.width) - 1) << field.offset)
    word |= value << field.offset
    illegal = word.to_bytes(INSTRUCTION_BYTES, "little")
    first, second, third = decode_each(legal.encode() + illegal + End().encode())
    assert (first, third) == (legal, End())
    assert isinstance(second, InstructionError)
    with pytest.raises(InstructionError, match=rf"^Load.{name} = {value} must be"):
        raise second
    with pytest.raises(InstructionError, match=rf"^instruction 1: Load.{name} = {value} must be"):
        decode_program(legal.encode() + illegal)


def test_enumerations_are_decoded_as_members() -> None:
    (post,) = decode_program(Post(source=Source.SUM, rounding=Rounding.GEMMLOWP).encode())
    assert isinstance(post, Post)
    assert post.source is Source.SUM
    assert post.rounding is Rounding.GEMMLOWP


def test_a_bad_program_names_the_instruction() -> None:
    with pytest.raises(InstructionError, match="instruction 2: no instruction has opcode 0"):
        decode_program(End().encode() * 2 + bytes(64))
    with pytest.raises(InstructionError, match="70 bytes are no whole number"):
        decode_program(bytes(70))
