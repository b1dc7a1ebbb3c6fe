"""The wires of a netlist as a graph: what a signal passes between two clock edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pliant_sim.synthesis.netlist import (
    BLOCK_RAMS,
    CARRIES,
    DSPS,
    FLIP_FLOPS,
    LUT_MEMORY,
    LUTS,
    SHIFT_REGISTERS,
    ULTRA_RAMS,
    WIDE_MULTIPLEXERS,
    Bit,
    Cell,
)
from pliant_sim.synthesis.parts import Box, Part, plain_name

Wire = tuple[str, Bit]
"""A wire of a part by the part's path in the core and its number there; also inner nodes."""

MEMORY_LEVELS = 3
"""Levels that the clock-to-output time of a block RAM without its output register counts for where
hard blocks count: 2.45 ns in the models that Yosys has, against 0.3 ns of a flip-flop, where a LUT
with its route is taken as 0.6 ns."""

DSP_STAGE_LEVELS = 2
"""Levels of an unregistered multiplier, adder or pre-adder of a DSP where hard blocks count: 1.2 to
1.4 ns in the same models (``A.required`` is 1416 ps into MREG and 254 ps into AREG)."""

_BEHIND = {"A": "AREG", "B": "BREG", "C": "CREG", "D": "DREG", "CARRYIN": "CARRYINREG",
           "OPMODE": "OPMODEREG", "ALUMODE": "ALUMODEREG", "INMODE": "INMODEREG",
           "CARRYINSEL": "CARRYINSELREG"}
"""The register behind each input of a DSP; cascade inputs have none here."""

_MULTIPLIED = ("A", "B", "D", "ACIN", "BCIN", "INMODE")


@dataclass(frozen=True)
class End:
    """Where a path ends: the cell's type and port, its register's name, the levels inside it."""

    kind: str
    port: str
    name: str
    levels: int


@dataclass
class Graph:
    """Arcs from wires to wires with the levels they cost, and where paths begin and end.

    Attributes
    ----------
    arcs : dict of list
        For each wire the wires it follows from, with the levels between.
    starts : dict of str
        Wires that a register, memory or DSP drives, with the type of that cell.
    ends : dict of End
        Wires that enter such a cell.
    names : dict of str
        The name of the register or else of any signal.
    inputs, outputs : dict of str
        Wires of the ports of the whole, and their names.
    carries : set
        Wires that leave a carry chain to go on in the next cell.
    hard_blocks : bool
        Whether delays inside block RAMs and DSPs count as levels, or none but those of look-up
        tables and carry chains.
    """

    arcs: dict[Wire, list[tuple[Wire, int]]] = field(default_factory=dict)
    starts: dict[Wire, str] = field(default_factory=dict)
    ends: dict[Wire, End] = field(default_factory=dict)
    names: dict[Wire, str] = field(default_factory=dict)
    inputs: dict[Wire, str] = field(default_factory=dict)
    outputs: dict[Wire, str] = field(default_factory=dict)
    carries: set[Wire] = field(default_factory=set)
    hard_blocks: bool = False

    def arc(self, source: Wire, sink: Wire, levels: int) -> None:
        """Add that `sink` follows from `source`; constants are left out."""
        if isinstance(source[1], str) and source[1] in ("0", "1", "x", "z"):
            return
        self.arcs.setdefault(sink, []).append((source, levels))

    def end(self, cell: Cell, port: str, path: str, levels: int = 0) -> None:
        """Add that the wires at `port` enter a sequential cell."""
        named = [self.names[wire] for wire in _wires(cell.outputs, path) if wire in self.names]
        name = named[0] if named else f"{path}.{plain_name(cell.name)}".lstrip(".")
        for bit in cell.inputs[port]:
            old = self.ends.get((path, bit))
            if isinstance(bit, int) and (old is None or old.levels < levels):
                self.ends[path, bit] = End(cell.type, port, name, levels)


def graph(part: Part, *, hard_blocks: bool = False) -> Graph:
    """Return the graph of `part` with all parts inside it joined at their ports."""
    result = Graph(hard_blocks=hard_blocks)
    _add(result, part, "")
    for direction, ports in (("in", part.netlist.inputs), ("out", part.netlist.outputs)):
        for name, bits in ports.items():
            for index, bit in enumerate(bits):
                full = f"{name}[{index}]" if len(bits) > 1 else name
                (result.inputs if direction == "in" else result.outputs)["", bit] = full
    return result


def _add(result: Graph, part: Part, path: str) -> None:
    prefix = f"{path}." if path else ""
    netlist = part.netlist
    for bit, name in netlist.names.items():
        result.names[path, bit] = prefix + name
    for bit, name in netlist.registers.items():
        result.names[path, bit] = prefix + name
    for cell in netlist.cells:
        if cell.type in CARRIES:
            result.carries.update((path, bit) for bit in cell.outputs["CO"])
    for cell in netlist.cells:
        if cell.type in part.boxes:
            _join(result, part.boxes[cell.type], cell, path, prefix)
        else:
            _cell(result, cell, path)


def _join(result: Graph, box: Box, cell: Cell, path: str, prefix: str) -> None:
    """Add a black box's part and tie its ports to the wires around it."""
    inside = prefix + plain_name(cell.name)
    netlist = box.part.netlist
    _add(result, box.part, inside)
    for name, bits in cell.inputs.items():
        for outer, bit in zip(bits, netlist.inputs[box.ports[name]], strict=True):
            result.arc((path, outer), (inside, bit), 0)
    for name, bits in cell.outputs.items():
        for outer, bit in zip(bits, netlist.outputs[box.ports[name]], strict=True):
            result.arc((inside, bit), (path, outer), 0)


def _cell(result: Graph, cell: Cell, path: str) -> None:
    kind = cell.type
    if kind in LUTS or kind in WIDE_MULTIPLEXERS:
        _combinational(result, cell, path, 1 if kind in LUTS else 0)
    elif kind in CARRIES:
        _carry(result, cell, path)
    elif kind in FLIP_FLOPS:
        _sequential(result, cell, path)
    elif kind in LUT_MEMORY or kind in SHIFT_REGISTERS:
        _lut_memory(result, cell, path)
    elif kind in BLOCK_RAMS or kind in ULTRA_RAMS:
        _sequential(result, cell, path, MEMORY_LEVELS if result.hard_blocks else 0)
    elif kind in DSPS:
        _dsp(result, cell, path)
    else:
        raise AssertionError(kind)  # cell_area knows the same types


def _wires(ports: Mapping[str, list[Bit]], path: str) -> Iterator[Wire]:
    for bits in ports.values():
        yield from ((path, bit) for bit in bits)


def _combinational(result: Graph, cell: Cell, path: str, levels: int) -> None:
    for sink in _wires(cell.outputs, path):
        for source in _wires(cell.inputs, path):
            result.arc(source, sink, levels)


def _sequential(result: Graph, cell: Cell, path: str, levels: int = 0) -> None:
    for name in cell.inputs:
        if name != "C" and "CLK" not in name:
            result.end(cell, name, path)
    for index, wire in enumerate(_wires(cell.outputs, path)):
        _start(result, wire, cell, f"{path} {index}", levels)


def _start(result: Graph, wire: Wire, cell: Cell, place: str, levels: int) -> None:
    result.names.setdefault(wire, cell.name)
    if levels:
        inner = (place, f"inside {cell.name}")
        result.starts[inner] = cell.type
        result.arc(inner, wire, levels)
        result.names[inner] = result.names[wire]
    else:
        result.starts[wire] = cell.type


def _lut_memory(result: Graph, cell: Cell, path: str) -> None:
    """Add a memory of look-up tables: written at the clock edge, read through a LUT at once."""
    addresses = [(path, bit) for name, bits in cell.inputs.items() for bit in bits
                 if name.startswith(("A", "DPRA", "RA"))]
    for name in cell.inputs:
        if name not in ("WCLK", "CLK", "C"):
            result.end(cell, name, path)
    for sink in _wires(cell.outputs, path):
        _start(result, sink, cell, f"{path} {sink[1]}", 1)
        for source in addresses:
            result.arc(source, sink, 1)


def _carry(result: Graph, cell: Cell, path: str) -> None:
    """Add a piece of a chain: one level from wherever it is entered, however long it is."""
    count = len(cell.outputs["O"])

    def node(index: int) -> Wire:
        return path, f"carry {cell.name} {index}"

    for name in ("CI", "CYINIT"):
        for bit in cell.inputs.get(name, []):
            wire = (path, bit)
            result.arc(wire, node(0), 0 if wire in result.carries else 1)
    for index in range(count):
        select, data = cell.inputs["S"][index], cell.inputs["DI"][index]
        result.arc(node(index), node(index + 1), 0)
        result.arc((path, select), node(index + 1), 1)
        result.arc((path, data), node(index + 1), 1)
        total, carry = (path, cell.outputs["O"][index]), (path, cell.outputs["CO"][index])
        result.arc(node(index), total, 0)
        result.arc((path, select), total, 1)
        result.arc(node(index + 1), carry, 0)


def _dsp(result: Graph, cell: Cell, path: str) -> None:
    """Add a DSP: a register, or the levels to the next register, behind each input."""
    stage = DSP_STAGE_LEVELS if result.hard_blocks else 0

    def has(register: str) -> bool:
        value = cell.parameters.get(register, 0)
        return (int(value, 2) if isinstance(value, str) else value) > 0

    outputs = [(path, bit) for name in ("P", "PCOUT", "CARRYOUT", "ACOUT", "BCOUT")
               for bit in cell.outputs.get(name, [])]
    multiplies = "NONE" not in str(cell.parameters.get("USE_MULT", ""))
    for name, bits in cell.inputs.items():
        register = _BEHIND.get(name)
        if name == "CLK":
            continue
        if (register is None and "CIN" not in name) or (register is not None and has(register)):
            levels, stops = 0, True
        else:
            multiplied = multiplies and name in _MULTIPLIED
            levels = stage if multiplied else 0
            stops = multiplied and has("MREG")
            if not stops:
                levels += stage
                stops = has("PREG")
        if stops:
            result.end(cell, name, path, levels)
            continue
        for bit in bits:
            for sink in outputs:
                result.arc((path, bit), sink, levels)
    if not any(map(has, ("AREG", "BREG", "CREG", "DREG", "MREG", "PREG"))):
        return
    behind = 0 if has("PREG") else stage if has("MREG") else 2 * stage
    for wire in outputs:
        _start(result, wire, cell, f"{path} {wire[1]}", behind)
