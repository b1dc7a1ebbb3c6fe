"""The register map as tools want it: single 32-bit words, with bit fields and reset values."""

from __future__ import annotations

import ast
import enum
import inspect
from dataclasses import dataclass

from pliant.spec.config import ISA_VERSION, AcceleratorConfig
from pliant.spec.registers import (
    COMPLETION_CYCLES_BITS,
    COMPLETION_CYCLES_OFFSET,
    IDENTIFIER,
    REGISTERS,
    Access,
    Control,
    Fault,
    FaultUnit,
    Interrupt,
    Register,
    Status,
)

WORD_BITS = 32

HALVES = ("_low", "_high")
"""Ends of the names of the two words of a 64-bit register."""

ACCESS_NAMES = {Access.READ_ONLY: "read-only", Access.READ_WRITE: "read-write",
                Access.WRITE_ONE: "read-write"}
"""What IP-XACT and hardware handoffs call each access."""

MEANINGS: dict[str, type[enum.IntFlag] | type[enum.IntEnum]] = {
    "control": Control,
    "status": Status,
    "interrupt_enable": Interrupt,
    "interrupt_status": Interrupt,
    "completion": Interrupt,
    "fault_code": Fault,
    "fault_unit": FaultUnit,
}
"""Registers whose bits, or whose values, have names."""


@dataclass(frozen=True)
class BitField:
    """Some bits of a word; `values` are those that have a name."""

    name: str
    offset: int
    width: int
    doc: str
    values: tuple[tuple[str, int, str], ...] = ()


NUMBERS = {
    "completion": (BitField(
        name="cycles", offset=COMPLETION_CYCLES_OFFSET, width=COMPLETION_CYCLES_BITS,
        doc="cycles of the run, all ones if they do not fit"),),
}
"""Fields of registers of named bits that hold a number."""


@dataclass(frozen=True)
class Word:
    """One 32-bit register; `reset` is what it holds after a hard reset."""

    name: str
    address: int
    access: Access
    doc: str
    reset: int
    fields: tuple[BitField, ...] = ()


def words(config: AcceleratorConfig) -> tuple[Word, ...]:
    """Return all words by ascending address; 64-bit registers give two, the low one first."""
    constants = {"identifier": IDENTIFIER, "version": ISA_VERSION,
                 "fingerprint": config.fingerprint}
    found = []
    for register in REGISTERS.values():
        reset = constants.get(register.name, 0)
        for index in range(register.words):
            found.append(Word(
                name=register.name + (HALVES[index] if register.words > 1 else ""),
                address=register.address + 4 * index, access=register.access,
                doc=register.doc + (f" ({HALVES[index][1:]} half)" if register.words > 1 else ""),
                reset=reset >> WORD_BITS * index & (1 << WORD_BITS) - 1,
                fields=_fields(register)))
    return tuple(sorted(found, key=lambda word: word.address))


def _fields(register: Register) -> tuple[BitField, ...]:
    meaning = MEANINGS.get(register.name)
    if meaning is None:
        return ()
    docs = member_docs(meaning)
    if issubclass(meaning, enum.IntFlag):
        bits = tuple(
            BitField(name=str(member.name), offset=member.value.bit_length() - 1, width=1,
                     doc=docs.get(str(member.name), ""))
            for member in meaning)
        return bits + NUMBERS.get(register.name, ())
    return (BitField(
        name=register.name, offset=0, width=WORD_BITS, doc=register.doc,
        values=tuple((member.name, member.value, docs.get(member.name, ""))
                     for member in meaning)),)


def member_docs(kind: type) -> dict[str, str]:
    """Return the strings that stand below the members of an enumeration, on one line each."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(statement, ast.Assign) and isinstance(following, ast.Expr):
            assert isinstance(statement.targets[0], ast.Name)
            assert isinstance(following.value, ast.Constant)
            docs[statement.targets[0].id] = " ".join(str(following.value.value).split())
    return docs
