"""The matrix array for synthesis: two int8 products in each DSP slice, summed in cascades."""

from __future__ import annotations

from functools import partial
from typing import Any

from amaranth import Cat, Module, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.array import Array, ArrayFactory, sum_shape
from pliant_hw.dsp import DspFamily, DspSlice
from pliant_hw.pipeline import delayed


def cascade_length(family: DspFamily, rows: int) -> int:
    """Return the slices of a cascade: a power of two that divides `rows`, as long as may be."""
    return int(min(rows, 1 << (family.products.bit_length() - 1)))


def pair_latency(family: DspFamily, rows: int) -> int:
    """Return the cycles from the activation of place 0 of a PackedPair to its sums."""
    length = cascade_length(family, rows)
    return 2 + length + (rows // length).bit_length() - 1


class PackedArray(Array):
    """Multiplies by two weights in each DSP slice; weights are -127 to 127.

    Columns 2p and 2p + 1 share the slices of pair p, see PackedPair. A cascade adds one product a
    cycle, so row r of a word enters ``r % length`` cycles late, and with it the swap of its weight.
    Ports are those of Array, to whose contract this one holds for weights of narrow range; sums are
    undefined for a weight of -128.

    Parameters
    ----------
    config : AcceleratorConfig
    family : DspFamily
    primitive : bool
        Instantiate the family's slices, or describe what they do (for simulators).
    """

    def __init__(
        self, *, config: AcceleratorConfig, family: DspFamily, primitive: bool
    ) -> None:
        super().__init__(config=config)
        self._family = family
        self._primitive = primitive
        self._length = cascade_length(family, config.rows)
        self.latency = 1 + pair_latency(family, config.rows)  # the rows' registers come first

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, length = self._config.rows, self._length

        # The last register of a delay has a reset so that it stays one: shift registers made of
        # LUTs have none, and are too slow to drive all pairs.
        activations = [Signal(signed(8), name=f"activation_{row}") for row in range(rows)]
        for row in range(rows):
            word: Signal = Signal(signed(8), name=f"word_{row}")
            m.d.comb += word.eq(self.word[row])
            m.d.sync += activations[row].eq(
                delayed(m, word, row % length, f"word_{row}", reset_less=True))
        swap = Signal(length)
        m.d.sync += swap.eq(Cat(self.valid & self.swap, swap))

        load = Signal(rows)
        m.d.sync += load.eq(self.weight_write << self.weight_row)
        for index in range(self._config.cols // 2):
            pair = PackedPair(rows=rows, sum_shape=sum_shape(self._config), family=self._family,
                              primitive=self._primitive)
            low, high = self.weight_data[2 * index], self.weight_data[2 * index + 1]
            lower = Signal(signed(8), name=f"lower_{index}", reset_less=True)
            upper = Signal(signed(8), name=f"upper_{index}", reset_less=True)
            m.d.sync += [lower.eq(low), upper.eq(high - low[-1])]
            sign = lower[-1].replicate(self._family.shift - 8)
            m.submodules[f"pair_{index}"] = pair
            m.d.comb += [
                pair.weight.eq(Cat(lower, sign, upper)),
                pair.load.eq(load),
                pair.swap.eq(swap),
                *(pair.activations[row].eq(activations[row]) for row in range(rows)),
                *(self.sums[2 * index + side].eq(pair.sums[side]) for side in range(2)),
            ]
        return m


def packed(family: DspFamily, *, primitive: bool = False) -> ArrayFactory:
    """Return what makes the packed array of a family."""
    return partial(PackedArray, family=family, primitive=primitive)


class PackedPair(wiring.Component):
    """Two columns: one slice for each row, in one or more cascades of equal length.

    A cascade starts from half of ``1 << shift``. That makes the lower part of its last sum
    positive, so that no borrow reaches the upper part; the lower sum comes back by inverting its
    top bit. The sums of several cascades are added in a tree with a register behind each level.

    Parameters
    ----------
    rows : int
    sum_shape : Shape
    family : DspFamily
    primitive : bool
        See DspSlice.

    Members
    -------
    weight : In   ``(high << shift) + low``, each -127 to 127
    load : In   one bit for each row: `weight` goes to its shadow register
    swap : In   one bit for each place in a cascade: the rows there take their new weights
    activations : In   rows x int8; those of place p come p cycles late, with their `swap`
    sums : Out   of the lower and of the upper weights' column, see pair_latency
    """

    weight: Signal
    load: Signal
    swap: Signal
    activations: Any
    sums: Any

    def __init__(
        self, *, rows: int, sum_shape: Shape, family: DspFamily, primitive: bool
    ) -> None:
        self._rows = rows
        self._sum_shape = sum_shape
        self._family = family
        self._primitive = primitive
        self._length = cascade_length(family, rows)
        super().__init__({
            "weight": In(signed(family.multiplicand_bits)),
            "load": In(rows),
            "swap": In(self._length),
            "activations": In(data.ArrayLayout(signed(8), rows)),
            "sums": Out(data.ArrayLayout(sum_shape, 2)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        totals = [self._cascade(m, first) for first in range(0, self._rows, self._length)]
        shift = self._family.shift
        lower: list[Value] = []
        upper: list[Value] = []
        for total in totals:
            lower.append(Cat(total[:shift - 1], ~total[shift - 1]).as_signed())
            upper.append(total[shift:2 * shift].as_signed())
        m.d.comb += [
            self.sums[0].eq(_registered_sum(m, lower, "lower")),
            self.sums[1].eq(_registered_sum(m, upper, "upper")),
        ]
        return m

    def _cascade(self, m: Module, first: int) -> Signal:
        """Add the slices of the rows from `first` on; return the last one's sum."""
        previous: DspSlice | None = None
        for place in range(self._length):
            row = first + place
            current = DspSlice(
                family=self._family, primitive=self._primitive,
                constant=1 << (self._family.shift - 1) if previous is None else None)
            m.submodules[f"row_{row}"] = current
            m.d.comb += [
                current.weight.eq(self.weight),
                current.load.eq(self.load[row]),
                current.swap.eq(self.swap[place]),
                current.activation.eq(self.activations[row]),
            ]
            if previous is not None:
                m.d.comb += current.cascade_in.eq(previous.cascade_out)
            previous = current
        assert previous is not None
        return previous.sum


def _registered_sum(m: Module, terms: list[Value], name: str) -> Value:
    """Return the sum of a power of two of terms, behind a register for each level of its tree."""
    level = 0
    while len(terms) > 1:
        results: list[Value] = []
        for index, (first, second) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
            total = Signal((first + second).shape(), name=f"{name}_{level}_{index}",
                           reset_less=True)
            m.d.sync += total.eq(first + second)
            results.append(total)
        terms, level = results, level + 1
    return terms[0]
