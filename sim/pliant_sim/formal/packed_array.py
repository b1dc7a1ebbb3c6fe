"""Proves the packed array equal to the plain one, for any weights and activations.

Both netlists are evaluated side by side on one schedule of words and swaps, with a fresh variable
for each weight and activation. Multiplications and additions are cut: their results are variables
too, with what they are known to satisfy. From that, each word's sums are proved equal in steps that
the solver does in milliseconds, see :func:`prove_equal`.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import z3
from amaranth.back import rtlil  # type: ignore[attr-defined]  # the stubs lack it

from pliant.spec.config import PRESETS
from pliant.spec.numerics import INT8_MIN, WEIGHT_MAX, WEIGHT_MIN
from pliant_hw.array import MatrixArray, sum_shape
from pliant_hw.dsp import SUM_BITS, DspFamily
from pliant_hw.packed_array import PackedArray, cascade_length
from pliant_hw.verilog import flat_ports
from pliant_sim.formal.netlist import SCRIPT, SymbolicNetlist, Term
from pliant_sim.synthesis import yosys

LARGEST_PRODUCT = WEIGHT_MAX * -INT8_MIN
TIMEOUT = 60_000
"""Milliseconds after which the solver gives up on a step; the longest takes a second."""

SIDES = range(2)
"""The lower and the upper weight of a slice: an even column and the next."""


class NotProvedError(AssertionError):
    """A step of a proof fails; holds what was to be shown and a counterexample, if there is one."""


@dataclass
class Prover:
    """Proves formulas; one that differs from an earlier one only in names is not proved again."""

    steps: int = 0
    queries: int = 0
    _known: set[str] = field(default_factory=set)

    def prove(self, what: str, facts: list[Term], goal: Term) -> None:
        """Show that `facts` imply `goal`; NotProvedError otherwise."""
        self.steps += 1
        formula = z3.And(*facts, z3.Not(goal))
        names = [(variable, z3.BitVec(f"v{index}", variable.size()))
                 for index, variable in enumerate(variables(formula))]
        key = z3.substitute(formula, *names).sexpr()
        if key in self._known:
            return
        self.queries += 1
        # Identities of bit vectors, hard bit by bit, vanish as sums of monomials.
        if not z3.is_false(z3.simplify(formula, som=True)):
            solver = z3.Solver()
            solver.set("timeout", TIMEOUT)
            solver.add(formula)
            result = solver.check()
            if result != z3.unsat:
                example = solver.model() if result == z3.sat else solver.reason_unknown()
                raise NotProvedError(f"{what}: {goal}\n{example}")
        self._known.add(key)


def variables(term: Term) -> list[Term]:
    """Return the variables of a term in the order of their first appearance."""
    found: dict[int, Term] = {}
    seen: set[int] = set()
    stack = [term]
    while stack:
        current = stack.pop()
        if current.get_id() in seen:
            continue
        seen.add(current.get_id())
        if z3.is_const(current) and current.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            found[current.get_id()] = current
        stack += reversed(current.children())
    return list(found.values())


def wide(term: Term) -> Term:
    """Return a signed term in the width of a slice's sum."""
    return z3.SignExt(SUM_BITS - term.size(), term)


def bounded(term: Term, limit: int) -> Term:
    """Return that a signed term is from -limit to limit."""
    return z3.And(wide(term) <= limit, wide(term) >= -limit)


def narrow(weight: Term) -> Term:
    """Return that a weight is of narrow range."""
    return weight >= WEIGHT_MIN


def prove_product(prover: Prover, family: DspFamily) -> None:
    """Show that a slice's product is two plain ones, for all weights and activations.

    For weights h, l, a word's x and A the multiplicand: if A = h * 2**shift + l then A * x, sign-
    extended to 48 bits, is (h * x) * 2**shift + l * x, of products with 16 bits. In three steps:
    distribution, an identity of bit vectors; the width of a plain product; the width of the sum.
    """
    shift, bits = family.shift, family.multiplicand_bits + 8
    a, b, c, y = (z3.BitVec(name, bits) for name in "abcy")
    prover.prove("distribution", [], (a * c + b) * y - ((a * y) * c + b * y) == 0)
    prover.prove("shift as a factor", [], a << shift == a * z3.BitVecVal(1 << shift, bits))
    w, x = z3.BitVec("w", 8), z3.BitVec("x", 8)
    product = z3.SignExt(8, w) * z3.SignExt(8, x)
    exact = z3.SignExt(bits - 8, w) * z3.SignExt(bits - 8, x)
    prover.prove("width of a product", [], z3.SignExt(bits - 16, product) == exact)
    prover.prove("bound of a product", [narrow(w)], bounded(product, LARGEST_PRODUCT))
    h, l = z3.BitVec("h", 16), z3.BitVec("l", 16)  # noqa: E741
    total = (z3.SignExt(bits - 16, h) << shift) + z3.SignExt(bits - 16, l)
    prover.prove("width of a slice's product",
                 [bounded(h, LARGEST_PRODUCT), bounded(l, LARGEST_PRODUCT)],
                 wide(total) == (wide(h) << shift) + wide(l))


class Miter:
    """The two arrays side by side, and what is known of their cut terms.

    Parameters
    ----------
    family : DspFamily
    rows : int
    prover : Prover
    """

    def __init__(self, family: DspFamily, rows: int, prover: Prover) -> None:
        config = dataclasses.replace(
            PRESETS["tiny"], rows=rows, cols=rows, axi_data_bytes=rows, weight_depth=1024)
        packed = PackedArray(config=config, family=family, primitive=False)
        plain = MatrixArray(config=config)
        self.family, self.rows, self.prover = family, rows, prover
        self.delays = {"plain": plain.latency, "packed": packed.latency}
        self.definitions: dict[int, Term] = {}  # of cut sums, by the identity of their variables
        self.slices: dict[int, tuple[Term, Term]] = {}  # products in a slice's product
        self._products: dict[tuple[str, str], Term] = {}
        self._cuts: list[Term] = []  # a term's identity is its own while it lives
        width = sum_shape(config).width
        self._netlists = {
            name: SymbolicNetlist(
                _netlist(array), name, [("sums", side * width, width) for side in SIDES], hook)
            for name, array, hook in (("plain", plain, self._plain), ("packed", packed,
                                                                    self._packed))}

    def step(self, inputs: dict[str, Term]) -> dict[str, list[Term]]:
        """Return the sums of columns 0 and 1 in both arrays, in a cycle with these inputs."""
        return {name: netlist.step(inputs) for name, netlist in self._netlists.items()}

    def product(self, activation: Term, weight: Term) -> Term:
        """Return the variable, 16 bits, for the product of two variables."""
        key = str(activation), str(weight)
        if key not in self._products:
            self._products[key] = z3.BitVec(f"{activation}*{weight}", 16)
        return self._products[key]

    def _cut(self, width: int) -> Term:
        self._cuts.append(z3.BitVec(f"cut{len(self._cuts)}", width))
        return self._cuts[-1]

    def _plain(self, name: str, kind: str, operands: list[Term], result: Term) -> Term:
        if kind == "$mul":
            first, second = operands
            if str(first).startswith("w"):
                first, second = second, first
            if str(first).startswith("x") and str(second).startswith("w"):
                return self.product(first, second)
            return self._cut(result.size())  # of what registers held at power-on
        if kind == "$add":
            return self._define(result)
        return result

    def _packed(self, name: str, kind: str, operands: list[Term], result: Term) -> Term:
        if kind == "$mul":
            packed, activation = sorted(operands, key=lambda term: -int(term.size()))
            weights = sorted(variables(packed), key=str)
            cut = self._cut(result.size())
            if str(activation).startswith("x") and all(str(w).startswith("w") for w in weights):
                self._prove_operand(packed, weights)
                low, high = (self.product(activation, weight) for weight in weights)
                self.slices[cut.get_id()] = low, high
            return cut
        if (kind == "$add" and "row_" not in name) or (
                kind == "$dff" and result.size() == SUM_BITS):
            return self._define(result)
        return result

    def _prove_operand(self, packed: Term, weights: list[Term]) -> None:
        """Show that what stands in A is made of two weights of narrow range."""
        low, high = (z3.SignExt(packed.size() - 8, weight) for weight in weights)
        self.prover.prove("packed weights", [narrow(weight) for weight in weights],
                          packed == (high << self.family.shift) + low)

    def _define(self, result: Term) -> Term:
        variable = self._cut(result.size())
        self.definitions[variable.get_id()] = result
        return variable

    def prove_sums(self, plain: list[Term], packed: list[Term]) -> None:
        """Show that the sums of one word are the same in both arrays.

        By induction over halves of a cascade, along the adder trees of the plain columns: what a
        cascade adds to its start is (upper tree) * 2**shift + (lower tree).
        """
        trees = [self._tree(root) for root in plain]
        facts: list[Term] = []
        length = cascade_length(self.family, self.rows)
        ends = [total for total in self._reachable(packed) if total.size() == SUM_BITS]
        assert len(ends) == self.rows // length
        for end in ends:
            chain = self._chain(end)
            assert len(chain) == length
            start = self._cascade_in(chain[0])
            assert z3.is_bv_value(start), start
            low, high = self._prove_span(chain, trees)
            fact = end == start + (wide(high) << self.family.shift) + wide(low)
            bounds = [bounded(term, length * LARGEST_PRODUCT) for term in (low, high)]
            shift = self.family.shift
            halves = (z3.Concat(~z3.Extract(shift - 1, shift - 1, end),
                                z3.Extract(shift - 2, 0, end)),
                      z3.Extract(2 * shift - 1, shift, end))
            for half, tree in zip(halves, (low, high), strict=True):
                self.prover.prove("parts of a cascade's sum", [fact, *bounds],
                                  wide(half) == wide(tree))
                facts.append(wide(half) == wide(tree))
            facts += bounds
        for first, second in zip(plain, packed, strict=True):
            tops = [term == self.definitions[term.get_id()] for term in self._above(first, length)]
            adders = [term == self.definitions[term.get_id()]
                      for term in self._fabric([second])]
            self.prover.prove("sums", [*facts, *tops, *adders], first == second)

    def _prove_span(self, chain: list[Term], trees: list[dict[Any, Term]]) -> tuple[Term, Term]:
        """Show what the slices of `chain` add; return the lower and the upper tree's term."""
        products = [self.slices[self._product_in(total).get_id()] for total in chain]
        nodes = [trees[side][frozenset(pair[side].get_id() for pair in products)]
                 for side in SIDES]
        shift = self.family.shift
        if len(chain) == 1:
            cut = self._product_in(chain[0])
            low, high = products[0]
            facts = [chain[0] == self.definitions[chain[0].get_id()],
                     wide(cut) == (wide(high) << shift) + wide(low)]  # prove_product
            gain = chain[0] - self._cascade_in(chain[0])
            self.prover.prove("a slice", facts, gain == (wide(high) << shift) + wide(low))
            return low, high
        middle = len(chain) // 2
        before = self._cascade_in(chain[0])
        facts = []
        for half in (chain[:middle], chain[middle:]):
            low, high = self._prove_span(half, trees)
            facts.append(half[-1] == self._cascade_in(half[0]) + (wide(high) << shift) + wide(low))
            facts += [bounded(term, len(half) * LARGEST_PRODUCT) for term in (low, high)]
        facts += [node == self.definitions[node.get_id()] for node in nodes]
        goal = chain[-1] == before + (wide(nodes[1]) << shift) + wide(nodes[0])
        self.prover.prove(f"{len(chain)} slices", facts, goal)
        for node in nodes:
            self.prover.prove("bound of a sum", facts,
                              bounded(node, len(chain) * LARGEST_PRODUCT))
        return nodes[0], nodes[1]

    def _tree(self, root: Term) -> dict[Any, Term]:
        """Return the terms of an adder tree by the products they are sums of."""
        found: dict[Any, Term] = {}

        def visit(term: Term) -> frozenset[int]:
            definition = self.definitions.get(term.get_id())
            leaves = (frozenset([term.get_id()]) if definition is None else
                      frozenset().union(*(visit(part) for part in variables(definition))))
            found[leaves] = term
            return leaves

        assert len(visit(root)) == self.rows
        return found

    def _above(self, root: Term, leaves: int) -> list[Term]:
        """Return the terms of a tree that are sums of more than `leaves` products."""
        return [term for products, term in self._tree(root).items() if len(products) > leaves]

    def _fabric(self, terms: list[Term]) -> list[Term]:
        """Return the results of the adders between cascades and `terms`."""
        return [term for term in self._reachable(terms) if term.size() < SUM_BITS]

    def _reachable(self, terms: list[Term]) -> list[Term]:
        """Return the results of additions in `terms` and below, down to the ends of cascades."""
        found: dict[int, Term] = {}
        pending = [variable for term in terms for variable in variables(term)]
        while pending:
            term = pending.pop()
            if term.get_id() not in found:
                found[term.get_id()] = term
                if term.size() < SUM_BITS:
                    pending += variables(self.definitions[term.get_id()])
        return list(found.values())

    def _chain(self, end: Term) -> list[Term]:
        """Return the sums of a cascade's slices, the first slice's first."""
        chain = [end]
        while not z3.is_bv_value(before := self._cascade_in(chain[0])):
            chain.insert(0, before)
        return chain

    def _product_in(self, total: Term) -> Term:
        (cut,) = [term for term in variables(self.definitions[total.get_id()])
                  if term.size() < SUM_BITS]
        return cut

    def _cascade_in(self, total: Term) -> Term:
        """Return what a slice adds its product to: the sum before, or the constant start."""
        definition = self.definitions[total.get_id()]
        sums = [term for term in variables(definition) if term.size() == SUM_BITS]
        if sums:
            (before,) = sums
            return before
        zero = z3.BitVecVal(0, self._product_in(total).size())
        return z3.simplify(z3.substitute(definition, (self._product_in(total), zero)))


def _netlist(array: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "array.il").write_text(
            rtlil.convert(array, name="array", ports=flat_ports(array), emit_src=False))
        yosys.run(["read_rtlil array.il", *SCRIPT], directory)
        module: dict[str, Any] = json.loads((directory / "netlist.json").read_text())[
            "modules"]["array"]
        return module


def schedule(rows: int, pauses: bool) -> list[tuple[bool, bool, int | None]]:
    """Return cycles of (valid, swap, row written) that load and use three tiles.

    Tiles follow as fast as the contract allows, or with pauses in the words and in the writes.
    """
    cycles: list[tuple[bool, bool, int | None]] = []
    written = 0
    swaps = 0
    while swaps < 3:
        beat = len(cycles)
        swap = written == rows and not (pauses and beat % 3)
        if swap:
            written, swaps = 0, swaps + 1
        write = written < rows and not (pauses and beat % 5 == 4)
        cycles.append((swap or not (pauses and beat % 7 == 5), swap, written if write else None))
        written += write
    return cycles + [(True, False, None)] * 3


def prove_equal(family: DspFamily, rows: int, *, pauses: bool) -> tuple[int, int, Prover]:
    """Prove a pair of columns equal; return the words and cycles it was done for, and the prover.

    Shown: for every word of :func:`schedule`, from any state at power-on, for all activations and
    all weights of narrow range, the sums of columns 0 and 1 are equal.

    1. A slice's product is two plain products (prove_product).
    2. In each cycle, what a slice multiplies is the activation and the two weights that the plain
       columns multiply, in a multiplicand as 1. needs it.
    3. From the products' bounds: the sums are equal (Miter.prove_sums).
    """
    prover = Prover()
    prove_product(prover, family)
    miter = Miter(family, rows, prover)
    cycles = schedule(rows, pauses)
    drain = max(miter.delays.values())
    idle: list[tuple[bool, bool, int | None]] = [(False, False, None)]
    found: dict[str, dict[int, list[Term]]] = {"plain": {}, "packed": {}}
    loaded: list[int] = []
    for cycle, (valid, swap, row) in enumerate(idle * drain + cycles + idle * drain):
        if swap or loaded:
            loaded += [cycle] if valid else []
        for name, sums in miter.step(_inputs(rows, cycle, valid, swap, row)).items():
            found[name][cycle - miter.delays[name]] = sums
    for cycle in loaded:
        miter.prove_sums(found["plain"][cycle], found["packed"][cycle])
    return len(loaded), len(cycles), prover


def _inputs(rows: int, cycle: int, valid: bool, swap: bool, row: int | None) -> dict[str, Term]:
    """Return the inputs of a cycle: a variable for each byte, constants for control."""
    def bytes_of(kind: str, count: int) -> Term:
        return z3.Concat(*(z3.BitVec(f"{kind}{cycle}.{index:02}", 8)
                           for index in reversed(range(count))))

    return {
        "rst": z3.BitVecVal(0, 1),
        "valid": z3.BitVecVal(int(valid), 1),
        "swap": z3.BitVecVal(int(swap), 1),
        "weight_write": z3.BitVecVal(int(row is not None), 1),
        "weight_row": z3.BitVecVal(row or 0, (rows - 1).bit_length()),
        "word": bytes_of("x", rows),
        "weight_data": bytes_of("w", rows),
    }
