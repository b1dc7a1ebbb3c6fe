"""Area along the module hierarchy: which cell belongs to which module of a flattened netlist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pliant_sim.synthesis.netlist import (
    Area,
    Bit,
    Cell,
    Netlist,
    cell_area,
    drivers,
    input_bits,
    readers,
)
from pliant_sim.synthesis.parts import Part, plain_name

_COMBINATIONAL = re.compile(r"LUT\d|INV|CARRY\d|MUXF\d")
_INDEX = re.compile(r"^(.*?)_?(\d+)$")


@dataclass
class Node:
    """One module: its own cells, and its submodules by name.

    Attributes
    ----------
    own : Area
        Of cells that belong to the module itself.
    children : dict of Node
    memories : dict of Area
        What each memory of the module itself maps to, by name.
    """

    own: Area = field(default_factory=Area)
    children: dict[str, Node] = field(default_factory=dict)
    memories: dict[str, Area] = field(default_factory=dict)

    @property
    def total(self) -> Area:
        """The module with all below it."""
        return sum((child.total for child in self.children.values()), self.own)

    def at(self, path: str) -> Node:
        """Return the module at `path`, made if it is not there; the empty path is this one."""
        node = self
        for name in path.split(".") if path else ():
            node = node.children.setdefault(name, Node())
        return node

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """Yield every module below, and this one, with its path."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(f"{path}.{name}" if path else name)


def tree(part: Part) -> Node:
    """Return the area of `part` by module.

    A register, a memory or a DSP belongs to the module that describes it. Yosys gives look-up
    tables no such name: they count for the module of the register (or memory, DSP, port) that they
    feed, directly or through other look-up tables; where that is a port of the whole part, for the
    module of the registers that feed them.
    """
    node = Node()
    netlist = part.netlist
    modules = _modules(netlist, part)
    owners = _owners(netlist, modules)
    for cell, owner in zip(netlist.cells, owners, strict=True):
        if cell.type in part.boxes:
            _graft(node, plain_name(cell.name), tree(part.boxes[cell.type].part))
            continue
        area = cell_area(cell.type)
        place = node.at(owner)
        place.own += area
        if area.lut_memory or area.ramb18 or area.ramb36 or area.uram:
            memory = _memory_name(cell, owner)
            place.memories[memory] = place.memories.get(memory, Area()) + area
    return node


def _graft(node: Node, path: str, subtree: Node) -> None:
    parent, _, name = path.rpartition(".")
    node.at(parent).children[name] = subtree


def _modules(netlist: Netlist, part: Part) -> frozenset[str]:
    """Return the paths of modules that the names of registers and memories show."""
    names = [*netlist.registers.values(),
             *(plain_name(cell.name) for cell in netlist.cells if cell.type in part.boxes)]
    return frozenset(_scope(name) for name in names)


def _scope(name: str) -> str:
    return name.rpartition(".")[0]


def _memory_name(cell: Cell, owner: str) -> str:
    name = plain_name(cell.name)[len(owner) + 1 if owner else 0:]
    return name.partition(".")[0]


def _owners(netlist: Netlist, modules: frozenset[str]) -> list[str]:
    """Return the path of the module that each cell belongs to."""
    known: dict[int, str] = {}
    for cell in netlist.cells:
        if not _COMBINATIONAL.fullmatch(cell.type):
            known[id(cell)] = _sequential_owner(cell, netlist, modules)
    fed = _spread(netlist.cells, readers(netlist), known)
    known.update(fed)
    source = drivers(netlist)
    for cell in netlist.cells:  # what only feeds ports of the part
        if id(cell) not in known:
            count: Counter[str] = Counter()
            for bit in input_bits(cell):
                if bit in source and id(source[bit][0]) in known:
                    count[known[id(source[bit][0])]] += 1
            known[id(cell)] = count.most_common(1)[0][0] if count else ""
    return [known[id(cell)] for cell in netlist.cells]


def _sequential_owner(cell: Cell, netlist: Netlist, modules: frozenset[str]) -> str:
    for bits in cell.outputs.values():
        for bit in bits:
            if bit in netlist.registers:
                return _scope(netlist.registers[bit])
    # A memory or a DSP has the name of what it was made from.
    name = re.sub(r"^\$\w+\\?|\$flatten|\\", "", cell.name)
    parts = plain_name(name).split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in modules:
            return ".".join(parts[:length])
    return ""


def _spread(
    cells: list[Cell], targets: Mapping[Bit, list[Cell]], known: Mapping[int, str]
) -> dict[int, str]:
    """Return the owner of each combinational cell that feeds, at last, a cell whose owner is known.

    Of several readers the nearest counts, the first in the netlist's order.
    """
    result: dict[int, str] = {}
    waiting = [cell for cell in cells if id(cell) not in known]
    while True:
        found = {}
        for cell in waiting:
            for bits in cell.outputs.values():
                for bit in bits:
                    for reader in targets.get(bit, ()):
                        owner = known.get(id(reader), result.get(id(reader)))
                        if owner is not None and id(cell) not in found:
                            found[id(cell)] = owner
        if not found:
            return result
        result.update(found)
        waiting = [cell for cell in waiting if id(cell) not in result]
