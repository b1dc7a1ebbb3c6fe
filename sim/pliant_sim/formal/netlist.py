"""Evaluates a netlist of Yosys cycle by cycle on terms of the SMT solver Z3."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import z3

SCRIPT = ("proc", "flatten", "opt_clean", "dffunmap", "opt_clean", "write_json netlist.json")
"""Yosys commands that turn RTLIL into what SymbolicNetlist reads."""

Term = Any
"""A bit vector of Z3, which has no types."""

Hook = Callable[[str, str, list[Term], Term], Term]
"""Is told name, type, operands and result of a cell; returns the term to use as its result."""


def _extend(term: Term, width: int, signed: bool) -> Term:
    extra = width - term.size()
    if extra <= 0:
        return z3.Extract(width - 1, 0, term) if extra else term
    return z3.SignExt(extra, term) if signed else z3.ZeroExt(extra, term)


def _bit(condition: Term) -> Term:
    return z3.If(condition, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))


_ARITHMETIC: dict[str, Callable[[Term, Term], Term]] = {
    "$add": lambda a, b: a + b, "$sub": lambda a, b: a - b, "$mul": lambda a, b: a * b,
    "$and": lambda a, b: a & b, "$or": lambda a, b: a | b, "$xor": lambda a, b: a ^ b,
}


def _evaluate(kind: str, cell: Mapping[str, Any], ports: Mapping[str, Term]) -> Term:
    """Return the result of a cell as the Yosys manual defines it; KeyError for an unknown type."""
    def number(name: str) -> int:
        return int(cell["parameters"][name], 2)

    if kind == "$mux":
        return z3.If(ports["S"] == 1, ports["B"], ports["A"])
    width, signed, a = number("Y_WIDTH"), bool(number("A_SIGNED")), ports["A"]
    if kind == "$not":
        return ~_extend(a, width, signed)
    if kind == "$logic_not":
        return _extend(_bit(a == 0), width, False)
    b = ports["B"]
    both = signed and bool(number("B_SIGNED"))
    if kind == "$eq":
        wide = max(a.size(), b.size())
        return _extend(_bit(_extend(a, wide, both) == _extend(b, wide, both)), width, False)
    if kind == "$shl":
        wide = max(width, b.size())
        shifted = _extend(a, wide, signed) << _extend(b, wide, False)
        return _extend(shifted, width, False)
    return _ARITHMETIC[kind](_extend(a, width, both), _extend(b, width, both))


class SymbolicNetlist:
    """What drives some outputs of a module, with every register at an arbitrary value at first.

    Parameters
    ----------
    module : mapping
        A module of Yosys' JSON, flat, after SCRIPT.
    name : str
        Tells its variables from those of another netlist.
    outputs : iterable of tuple
        Port, first bit, number of bits.
    hook : callable
        See Hook.
    """

    def __init__(
        self, module: Mapping[str, Any], name: str, outputs: Iterable[tuple[str, int, int]],
        hook: Hook,
    ) -> None:
        self._module = module
        self._hook = hook
        self._outputs = [module["ports"][port]["bits"][first:first + count]
                         for port, first, count in outputs]
        self._cells: list[str] = []  # in the order of evaluation
        self._registers: list[str] = []
        self._find_cone()
        self._state = {
            register: z3.BitVec(f"{name}:{register}", len(self._connection(register, "Q")))
            for register in self._registers}

    def step(self, inputs: Mapping[str, Term]) -> list[Term]:
        """Return the outputs in a cycle with these inputs, and clock the registers."""
        values: dict[int, tuple[Term, int]] = {}  # of a net: which bit of which term

        def drive(bits: list[Any], term: Term) -> None:
            values.update({bit: (term, index) for index, bit in enumerate(bits)})

        def read(bits: list[Any]) -> Term:
            parts: list[Term] = []
            index = 0
            while index < len(bits):  # runs of bits of one term
                bit, end = bits[index], index + 1
                if isinstance(bit, str):
                    parts.append(z3.BitVecVal(int(bit), 1))
                else:
                    term, low = values[bit]
                    while end < len(bits):
                        following, place = values.get(bits[end], (None, 0))
                        if following is not term or place != low + end - index:
                            break
                        end += 1
                    whole = low == 0 and end - index == term.size()
                    parts.append(term if whole else z3.Extract(low + end - index - 1, low, term))
                index = end
            return parts[0] if len(parts) == 1 else z3.Concat(*reversed(parts))

        for port, description in self._module["ports"].items():
            if description["direction"] == "input" and port in inputs:
                drive(description["bits"], inputs[port])
        for register, value in self._state.items():
            drive(self._connection(register, "Q"), value)
        for name in self._cells:
            cell = self._module["cells"][name]
            ports = {port: read(bits) for port, bits in cell["connections"].items() if port != "Y"}
            result = z3.simplify(_evaluate(cell["type"], cell, ports))
            operands = [z3.simplify(ports[port]) for port in sorted(ports)]
            drive(cell["connections"]["Y"], self._hook(name, cell["type"], operands, result))
        outputs = [z3.simplify(read(bits)) for bits in self._outputs]
        for register in self._registers:
            value = z3.simplify(read(self._connection(register, "D")))
            self._state[register] = self._hook(register, "$dff", [value], value)
        return outputs

    def _connection(self, cell: str, port: str) -> list[Any]:
        bits: list[Any] = self._module["cells"][cell]["connections"][port]
        return bits

    def _find_cone(self) -> None:
        drivers: dict[int, str] = {}
        for name, cell in self._module["cells"].items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    drivers |= dict.fromkeys((bit for bit in bits if isinstance(bit, int)), name)
        known: set[str] = set()
        pending = list(self._outputs)

        def visit(bits: list[Any]) -> None:
            for bit in bits:
                name = drivers.get(bit) if isinstance(bit, int) else None
                if name is None or name in known:
                    continue
                known.add(name)
                if self._module["cells"][name]["type"] == "$dff":
                    self._registers.append(name)
                    pending.append(self._connection(name, "D"))
                else:
                    for port, more in self._module["cells"][name]["connections"].items():
                        if port != "Y":
                            visit(more)
                    self._cells.append(name)

        while pending:
            visit(pending.pop())
