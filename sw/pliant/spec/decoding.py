"""Bytes to instructions, for a whole program at once: field by field, not one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pliant.spec.isa import (
    HEADER_BITS,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    OPCODE_BITS,
    TOKEN_BITS,
    Instruction,
    InstructionError,
    fields,
)


def decode(data: bytes) -> Instruction:
    """Return the instruction in 64 bytes; InstructionError when they are none."""
    if len(data) != INSTRUCTION_BYTES:
        raise InstructionError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
    (found,) = decode_each(data)
    if isinstance(found, InstructionError):
        raise found
    return found


def decode_program(data: bytes) -> list[Instruction]:
    """Decode a whole program; an error names the index of the bad instruction."""
    if len(data) % INSTRUCTION_BYTES:
        raise InstructionError(
            f"{len(data)} bytes are no whole number of {INSTRUCTION_BYTES}-byte instructions"
        )
    program = []
    for index, found in enumerate(decode_each(data)):
        if isinstance(found, InstructionError):
            raise InstructionError(f"instruction {index}: {found}")
        program.append(found)
    return program


def decode_each(data: bytes) -> list[Instruction | InstructionError]:
    """Decode a whole number of instructions; what is none becomes the error that says why."""
    words = np.frombuffer(data, np.uint8).reshape(-1, INSTRUCTION_BYTES)
    opcodes = words[:, 0] & ((1 << OPCODE_BITS) - 1)
    known = ", ".join(f"{kind.opcode} ({kind.__name__})" for kind in INSTRUCTIONS)
    found: list[Instruction | InstructionError] = [
        InstructionError(f"no instruction has opcode {opcode}; known: {known}")
        for opcode in opcodes.tolist()]
    for kind in INSTRUCTIONS:
        places = np.flatnonzero(opcodes == kind.opcode)
        if not len(places):
            continue
        bits = np.unpackbits(words[places], axis=1, bitorder="little")
        for place, instruction in zip(places.tolist(), _decode_kind(kind, bits), strict=True):
            found[place] = instruction
    return found


def _decode_kind(
    kind: type[Instruction], bits: NDArray[np.uint8]
) -> Iterator[Instruction | InstructionError]:
    """Decode rows of bits, least significant first, that all have the opcode of `kind`."""
    columns = {"wait": _number(bits, OPCODE_BITS, TOKEN_BITS),
               "signal": _number(bits, OPCODE_BITS + TOKEN_BITS, TOKEN_BITS)}
    end = HEADER_BITS
    legal = np.ones(len(bits), bool)
    for field in fields(kind):
        value = _number(bits, field.offset, field.width, signed=field.signed)
        legal &= (value >= field.minimum) & (value <= field.maximum)
        columns[field.name] = value
        end = field.offset + field.width
    rest = bits[:, end:].any(axis=1).tolist()
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    enumerations = [(field.name, field.values) for field in fields(kind) if field.values]
    for row, good, more in zip(rows, legal.tolist(), rest, strict=True):
        values = dict(zip(columns, row, strict=True))
        if more:
            yield InstructionError(f"{kind.__name__}: bits from {end} on must be zero")
        elif good:
            # Every range has been checked above, for all instructions at once.
            for name, members in enumerations:
                values[name] = members(values[name])
            instruction = object.__new__(kind)
            instruction.__dict__.update(values)
            yield instruction
        else:
            try:
                yield kind(**values)
            except InstructionError as error:
                yield error


def _number(
    bits: NDArray[np.uint8], offset: int, width: int, *, signed: bool = False
) -> NDArray[np.int64]:
    weights = np.int64(1) << np.arange(width)
    if signed:
        weights[-1] *= -1
    return bits[:, offset:offset + width] @ weights
