"""Mapped netlists: cells, wires with names, and what the cells cost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pliant_sim.synthesis.rtlil import REGISTER

Bit = int | str
"""A wire by its number in the netlist; "0", "1" and "x" are constants."""

LUT_MEMORY = {
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8,
}
"""LUTs in each kind of distributed memory (Xilinx UG474, UG574)."""

SHIFT_REGISTERS = {"SRL16E": 1, "SRLC32E": 1}
LUTS = {"INV": 1, **{f"LUT{inputs}": 1 for inputs in range(1, 7)}}
"""An inverter that nothing has absorbed takes a LUT."""

FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")
CARRIES = ("CARRY4", "CARRY8")
DSPS = ("DSP48E1", "DSP48E2")
BLOCK_RAMS = {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2}
"""Halves of a RAMB36."""

ULTRA_RAMS = ("URAM288", "URAM288_BASE")
WIDE_MULTIPLEXERS = ("MUXF7", "MUXF8", "MUXF9")


@dataclass(frozen=True)
class Cell:
    """One cell: its type, name, parameters, and bits by port."""

    type: str
    name: str
    parameters: Mapping[str, str]
    inputs: Mapping[str, list[Bit]]
    outputs: Mapping[str, list[Bit]]


@dataclass(frozen=True)
class Netlist:
    """A flat netlist.

    Attributes
    ----------
    inputs, outputs : bits of the ports by name
    cells : list of Cell
    registers : name of the register or memory read port that drives a bit
    names : any other name of a bit
    """

    inputs: Mapping[str, list[Bit]]
    outputs: Mapping[str, list[Bit]]
    cells: list[Cell]
    registers: Mapping[Bit, str]
    names: Mapping[Bit, str]


@dataclass(frozen=True, kw_only=True)
class Area:
    """What a piece of hardware takes, or the difference of two. Areas add and subtract.

    Attributes
    ----------
    lut : int
        All look-up tables, with those used as memory and as shift registers.
    lut_memory, lut_shift : int
        Look-up tables used as memory, as shift registers.
    ff, carry, muxf, dsp, uram : int
        Flip-flops, CARRY4 or CARRY8, MUXF7 to MUXF9, DSP48, UltraRAMs.
    ramb18, ramb36 : int
        Block RAMs of each size; two of the small make one of the large.
    """

    lut: int = 0
    lut_memory: int = 0
    lut_shift: int = 0
    ff: int = 0
    carry: int = 0
    muxf: int = 0
    dsp: int = 0
    ramb18: int = 0
    ramb36: int = 0
    uram: int = 0

    @property
    def block_rams(self) -> float:
        """Block RAMs in units of RAMB36."""
        return self.ramb36 + self.ramb18 / 2

    def __add__(self, other: Area) -> Area:
        return Area(**{item.name: getattr(self, item.name) + getattr(other, item.name)
                       for item in fields(Area)})

    def __sub__(self, other: Area) -> Area:
        return Area(**{item.name: getattr(self, item.name) - getattr(other, item.name)
                       for item in fields(Area)})


class UnknownCellError(RuntimeError):
    """A netlist has a cell whose cost is not known."""


def cell_area(kind: str) -> Area:
    """Return the area of one cell; UnknownCellError for types that are not of a Xilinx device."""
    if kind in LUTS:
        return Area(lut=1)
    if kind in LUT_MEMORY:
        return Area(lut=LUT_MEMORY[kind], lut_memory=LUT_MEMORY[kind])
    if kind in SHIFT_REGISTERS:
        return Area(lut=1, lut_shift=1)
    if kind in BLOCK_RAMS:
        return Area(ramb36=1) if BLOCK_RAMS[kind] == 2 else Area(ramb18=1)
    for kinds, area in ((FLIP_FLOPS, Area(ff=1)), (CARRIES, Area(carry=1)), (DSPS, Area(dsp=1)),
                        (ULTRA_RAMS, Area(uram=1)), (WIDE_MULTIPLEXERS, Area(muxf=1))):
        if kind in kinds:
            return area
    raise UnknownCellError(f"no area is known for cell type {kind!r}")


@dataclass
class _Names:
    best: dict[Bit, str] = field(default_factory=dict)

    def offer(self, name: str, bits: list[Bit]) -> None:
        """Keep for each bit the deepest name, the shortest of these."""
        for index, bit in enumerate(bits):
            full = f"{name}[{index}]" if len(bits) > 1 else name
            old = self.best.get(bit)
            if old is None or _preference(full) < _preference(old):
                self.best[bit] = full


def _preference(name: str) -> tuple[int, int, str]:
    return -name.count("."), len(name), name


def read_netlist(text: str) -> Netlist:
    """Return module ``unit`` of the JSON that Yosys writes."""
    module = json.loads(text)["modules"]["unit"]
    ports = {"input": {}, "output": {}}  # type: dict[str, dict[str, list[Bit]]]
    for name, port in module["ports"].items():
        ports[port["direction"]][name] = port["bits"]
    cells = [_cell(name, cell) for name, cell in module["cells"].items()]
    registers, names = _Names(), _Names()
    for name, net in module["netnames"].items():
        if REGISTER in net["attributes"]:
            registers.offer(_plain(name), net["bits"])
        elif not net["hide_name"]:
            names.offer(_plain(name), net["bits"])
    return Netlist(ports["input"], ports["output"], cells, registers.best, names.best)


def _plain(name: str) -> str:
    """Return a name without the numbers that make it unique."""
    parts = name.lstrip("\\").replace("<", "[").replace(">", "]").split(".")
    return ".".join(part.partition("$")[0] or part for part in parts)


def _cell(name: str, cell: Mapping[str, Any]) -> Cell:
    directions = cell["port_directions"]
    connections = cell["connections"]
    return Cell(
        cell["type"], name, cell["parameters"],
        {port: bits for port, bits in connections.items() if directions[port] == "input"},
        {port: bits for port, bits in connections.items() if directions[port] == "output"},
    )


def drivers(netlist: Netlist) -> dict[Bit, tuple[Cell, str]]:
    """Return the cell and port that drive each bit."""
    return {bit: (cell, port) for cell in netlist.cells
            for port, bits in cell.outputs.items() for bit in bits if isinstance(bit, int)}


def input_bits(cell: Cell) -> Iterator[Bit]:
    """Yield the wires that enter a cell."""
    for bits in cell.inputs.values():
        yield from (bit for bit in bits if isinstance(bit, int))


def readers(netlist: Netlist) -> dict[Bit, list[Cell]]:
    """Return the cells that each bit enters."""
    result: dict[Bit, list[Cell]] = defaultdict(list)
    for cell in netlist.cells:
        for bit in input_bits(cell):
            result[bit].append(cell)
    return result
