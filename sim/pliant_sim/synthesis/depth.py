"""The longest paths of a netlist, in levels of logic, by the names of the registers at their ends.

Yosys' own ``ltp`` walks through flip-flops with an enable, and ``sta`` knows no UltraScale+ cells.

A level is a look-up table, or a carry chain from where it is entered to where it is left, however
long it is. MUXF7 to MUXF9 cost nothing: they sit beside the LUTs they join. An inverter that no LUT
has absorbed is a LUT. Reading a memory of look-up tables is a level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pliant_sim.synthesis.timing_graph import Graph, Wire

_INDEX = re.compile(r"\[\d+\]$")


class LoopError(RuntimeError):
    """Logic feeds back to itself without a register; holds names along the loop."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """One path.

    Attributes
    ----------
    levels : int
    start, end : str
        Register, memory, DSP or port, by the signal's name.
    start_kind, end_kind : str
        Type of the cell at that end; "port" for a port of the unit.
    through : tuple of str
        Names of signals on the way, where they have one.
    """

    levels: int
    start: str
    end: str
    start_kind: str
    end_kind: str
    through: tuple[str, ...]


class Depths:
    """Levels from the nearest clock edge (or port) to every wire of a graph, the longest way.

    Parameters
    ----------
    graph : Graph
    from_ports : bool
        Whether paths begin at input ports as well.
    """

    def __init__(self, graph: Graph, *, from_ports: bool) -> None:
        self._graph = graph
        self._from_ports = from_ports
        self._levels: dict[Wire, int] = {}
        self._before: dict[Wire, Wire] = {}
        for wire in self._order():
            self._visit(wire)

    def _order(self) -> Iterable[Wire]:
        """Yield the wires such that each comes after all it follows from."""
        arcs = self._graph.arcs
        state: dict[Wire, int] = {}  # 1: below it is being visited, 2: done
        for root in arcs:
            if root in state:
                continue
            stack = [root]
            while stack:
                wire = stack[-1]
                if state.get(wire) is None:
                    state[wire] = 1
                    for source, _ in arcs.get(wire, ()):
                        if state.get(source) == 1:
                            self._fail(stack, source)
                        if source not in state:
                            stack.append(source)
                else:
                    stack.pop()
                    if state[wire] == 1:
                        state[wire] = 2
                        yield wire

    def _fail(self, stack: list[Wire], wire: Wire) -> None:
        names = [self._graph.names[item] for item in stack[stack.index(wire):]
                 if item in self._graph.names]
        raise LoopError(f"logic feeds back to itself: {' '.join(names[:20])}")

    def _visit(self, wire: Wire) -> None:
        best: int | None = None
        if wire in self._graph.starts or (self._from_ports and wire in self._graph.inputs):
            best = 0
        for source, levels in self._graph.arcs.get(wire, ()):
            before = self.levels(source)
            if before is not None and (best is None or before + levels > best):
                best = before + levels
                self._before[wire] = source
        if best is not None:
            self._levels[wire] = best

    def levels(self, wire: Wire) -> int | None:
        """Return the levels to `wire`; None if no path leads to it."""
        if wire not in self._levels and (
            wire in self._graph.starts or (self._from_ports and wire in self._graph.inputs)
        ):
            return 0
        return self._levels.get(wire)

    def trace(self, wire: Wire) -> list[Wire]:
        """Return the wires of the longest path to `wire`, from its start."""
        path = [wire]
        while path[-1] in self._before:
            path.append(self._before[path[-1]])
        return path[::-1]


def paths(graph: Graph, *, ports: bool) -> list[Path]:
    """Return the longest path into each register, memory or DSP, the longest first.

    Parameters
    ----------
    graph : Graph
        What :func:`~pliant_sim.synthesis.timing_graph.graph` returns.
    ports : bool
        Take paths that begin or end at a port of the whole, instead of those between registers.
    """
    depths = Depths(graph, from_ports=ports)
    longest: dict[str, tuple[int, Wire]] = {}
    ends = {wire: (end.name, end.levels) for wire, end in graph.ends.items()}
    if ports:
        ends |= {wire: (name, 0) for wire, name in graph.outputs.items()}
    for wire, (name, inside) in ends.items():
        levels = depths.levels(wire)
        base = _INDEX.sub("", name)
        if levels is not None and levels + inside >= longest.get(base, (0, wire))[0]:
            longest[base] = (levels + inside, wire)
    found = [_path(graph, depths.trace(wire), levels, ports)
             for levels, wire in longest.values() if levels]
    if ports:
        found = [path for path in found if "port" in (path.start_kind, path.end_kind)]
    return sorted(found, key=lambda path: (-path.levels, path.end, path.start))


def _path(graph: Graph, wires: list[Wire], levels: int, ports: bool) -> Path:
    first, last = wires[0], wires[-1]
    end = graph.ends.get(last)
    if ports and last in graph.outputs:
        name, kind = graph.outputs[last], "port"
    else:
        assert end is not None
        name, kind = end.name, f"{end.kind}.{end.port}"
    start_kind = graph.starts.get(first, "port")
    start = graph.inputs[first] if start_kind == "port" else graph.names.get(first, str(first))
    named = [graph.names[wire] for wire in wires[1:] if wire in graph.names]
    return Path(levels=levels, start=start, end=name, start_kind=start_kind, end_kind=kind,
                through=tuple(dict.fromkeys(named)))
