"""What nextpnr says of one unit: cells, maximum frequency, and the ends of its critical path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pliant_sim.synthesis.netlist import Netlist
from pliant_sim.synthesis.nextpnr import NextpnrError
from pliant_sim.synthesis.parts import plain_name

CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "multiplier": "MULT18X18D",
         "block_ram": "DP16KD", "lut_ram": "TRELLIS_RAMW"}
"""Cells of the device that are reported: look-up tables of four inputs (halves of carry cells
among them), flip-flops, 18x18 multipliers, 16 Kbit block RAMs, write ports of LUT memories."""

_UTILISATION = re.compile(r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%$", re.MULTILINE)
_PIECE = re.compile(r"\$(?:CCU2_COMB\d|DPRAM_?\w*|RAMW_?\w*|FF)$")
"""What nextpnr adds to the name of a cell that it takes apart."""


@dataclass(frozen=True, kw_only=True)
class CriticalPath:
    """The path between registers that bounds the clock.

    Attributes
    ----------
    start, end : str
        Registers; a memory or a multiplier with its port.
    nanoseconds, routing : float
        Delay from the clock to the set-up of the end; the part of it that is wires.
    """

    start: str
    end: str
    nanoseconds: float
    routing: float


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One unit on the device.

    Attributes
    ----------
    used : dict of int
        Cells, by the keys of CELLS.
    excess : dict of list of int
        Cells needed and cells there are, by nextpnr's names, where a unit needs more than there
        are: it is not placed, and the following fields are None.
    megahertz : float or None
        Maximum frequency of the slowest clock; None as well if no path joins two registers.
    path : CriticalPath or None
    """

    used: dict[str, int]
    excess: dict[str, list[int]]
    megahertz: float | None
    path: CriticalPath | None


def overfull(log: str) -> Placement | None:
    """Return the placement of a unit that the log of a failed run says is too big, else None."""
    cells = {name: [int(used), int(available)]
             for name, used, available in _UTILISATION.findall(log)}
    excess = {name: count for name, count in cells.items() if count[0] > count[1]}
    if not excess:
        return None
    return Placement(used={key: cells.get(name, [0])[0] for key, name in CELLS.items()},
                     excess=excess, megahertz=None, path=None)


def read_placement(text: str, netlist: Netlist) -> Placement:
    """Return what the JSON report of nextpnr says; `netlist` gives the names.

    Raises
    ------
    NextpnrError
        The text is not such a report, or lacks the path of its slowest clock.
    """
    try:
        content = json.loads(text)
        used = {key: int(content["utilization"][name]["used"]) for key, name in CELLS.items()}
        clocks = {name: float(clock["achieved"]) for name, clock in content["fmax"].items()}
        if any(not math.isfinite(value) or value <= 0 for value in clocks.values()):
            raise NextpnrError(f"nextpnr reports clocks of {clocks} MHz")
        if not clocks:
            return Placement(used=used, excess={}, megahertz=None, path=None)
        slowest = min(clocks, key=clocks.__getitem__)
        steps = _steps(content["critical_paths"], slowest)
        path = CriticalPath(
            start=_end(steps[0]["from"], netlist), end=_end(steps[-1]["to"], netlist),
            nanoseconds=sum(float(step["delay"]) for step in steps),
            routing=sum(float(step["delay"]) for step in steps if step["type"] == "routing"))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise NextpnrError("the report of nextpnr is not understood: "
                           f"{type(error).__name__}: {error}; version 0.4 or newer is needed"
                           ) from error
    return Placement(used=used, excess={}, megahertz=clocks[slowest], path=path)


def _steps(paths: list[dict[str, Any]], clock: str) -> list[dict[str, Any]]:
    """Return the steps of the path from `clock` to itself; it has the longest delay of these."""
    found = [path["path"] for path in paths
             if path["from"].split()[-1] == path["to"].split()[-1] == clock]
    if not found:
        raise NextpnrError(f"the report of nextpnr has no critical path of clock {clock!r}")
    return max(found, key=lambda steps: sum(float(step["delay"]) for step in steps))


def _end(place: Mapping[str, str], netlist: Netlist) -> str:
    """Return the register behind a port of a cell, or the cell's own name and its port.

    A register's wire may be gone, where it was a piece of another: then that one's name serves.
    """
    name = _PIECE.sub("", place["cell"])
    for cell in netlist.cells:
        if cell.name == name and cell.type == CELLS["ff"]:
            (bit,) = cell.outputs["Q"]
            for names in (netlist.registers, netlist.names):
                if bit in names:
                    return names[bit]
    return f"{plain_name(name) or name}.{place['port']}"
