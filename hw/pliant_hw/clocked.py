"""Verilog with each register assigned in its clocked process, and held by not being assigned.

Amaranth writes the next value of a register in a combinational process, which begins with the
register's own value. Simulators then copy every register in every cycle; Verilator's model of a
core runs a quarter faster without, and compiles in two thirds of the time.
"""

from __future__ import annotations

import re
from collections import Counter

_MODULE_END = re.compile(r"(?<=^endmodule\n)", re.MULTILINE)

_TEMPORARY = re.compile(r"\\\$\S+ ")

_CLOCKED = re.compile(r"^  always @\(posedge (\S+)\)\n    (\S+) <= (\\\$\S+ );\n", re.MULTILINE)
"""A register that takes over a temporary."""

_COMBINATIONAL = re.compile(
    r"^  always @\* begin\n(?:    if \(\\\$auto\$\S+ \) begin end\n)?"
    r"((?:    (\\\$\S+ ) ?= .*;\n)(?:    .*\n)*?)  end\n", re.MULTILINE)
"""A process whose first statement gives a temporary, the second group, its default."""

_DECLARATION = re.compile(r"^  reg (?:signed )?(?:\[[^\]]*\] )?(\\\$\S+ );\n", re.MULTILINE)


def clocked(text: str) -> str:
    """Return Verilog that Amaranth wrote with next values moved into the clocked processes.

    Only those move that nothing else reads, so that the registers' values are the same.
    """
    return "".join(_module(part) for part in _MODULE_END.split(text))


def _module(text: str) -> str:
    registers = {match[3]: (match[1], match[2]) for match in _CLOCKED.finditer(text)}
    uses = Counter(_TEMPORARY.findall(text))
    bodies: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        body, temporary = match[1], match[2]
        if temporary not in registers:
            return match[0]
        _, name = registers[temporary]
        assignment = re.compile(
            rf"^(\s*){re.escape(temporary)} ?((?:\[[^\]]*\] )?)= ", re.MULTILINE)
        moved, count = assignment.subn(
            lambda found: f"{found[1]}{name} {found[2]}<= ", body)
        # Nothing reads it: there are its declaration, these assignments and the register's.
        if body.count(temporary) != count or uses[temporary] != count + 2:
            return match[0]
        bodies[temporary] = moved.removeprefix(f"    {name} <= {name};\n")
        return ""

    text = _COMBINATIONAL.sub(take, text)
    text = _CLOCKED.sub(
        lambda match: (f"  always @(posedge {match[1]}) begin\n{bodies[match[3]]}  end\n"
                       if match[3] in bodies else match[0]), text)
    return _DECLARATION.sub(lambda match: "" if match[1] in bodies else match[0], text)
