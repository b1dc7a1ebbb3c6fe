"""`disasm`: a program as text, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pliant.spec.isa import Instruction, Unit, disassemble, fields
from pliant.spec.program import Program

WITHOUT_LAYER = ""
"""Layer of instructions that belong to none, such as End."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One instruction: its index in the program, its layer, its unit, its text and its fields.

    `wait` and `signal` name units; `unit` is None for End.
    """

    index: int
    layer: str
    unit: str | None
    text: str
    wait: tuple[str, ...]
    signal: tuple[str, ...]
    fields: dict[str, int]


def disasm(program: Program) -> list[Line]:
    """Return one line for each instruction of `program`.

    Raises
    ------
    InstructionError
        Bytes are no instruction; the message names the index.
    """
    layers = {index: layer.name for index, layer in program.owners.items()}
    return [_line(index, instruction, layers.get(index, WITHOUT_LAYER))
            for index, instruction in enumerate(program.decoded())]


def listing(program: Program, lines: Iterable[Line]) -> str:
    """Return lines as text, with a comment above the program and wherever the layer changes.

    The first comment of a layer says more than its name.
    """
    kinds = {layer.name: f": {layer.kind}, {layer.macs} MACs" for layer in program.layers}
    text = [f"; {program.network} for {program.config_name} ({program.fingerprint:016x}), "
            f"{program.macs} MACs"]
    layer = WITHOUT_LAYER
    for line in lines:
        if line.layer != layer:
            layer = line.layer
            text += ["", f"; {layer}{kinds.pop(layer, '')}" if layer else ";"]
        text.append(f"{line.index:6}  {line.text}")
    return "\n".join(text)


def _line(index: int, instruction: Instruction, layer: str) -> Line:
    unit = instruction.unit
    values: dict[str, int] = {field.name: int(getattr(instruction, field.name))
                              for field in fields(type(instruction))}
    return Line(index=index, layer=layer, unit=None if unit is None else unit.name.lower(),
                text=disassemble(instruction), wait=_units(instruction.wait),
                signal=_units(instruction.signal), fields=values)


def _units(mask: int) -> tuple[str, ...]:
    return tuple(unit.name.lower() for unit in Unit if mask >> unit & 1)

