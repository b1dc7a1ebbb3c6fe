"""The matrix array: rows x cols int8 multipliers with stationary weights, and its plain form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth import Module, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig


def sum_shape(config: AcceleratorConfig) -> Shape:
    """Return the shape of a column's sum: rows products of 16 bits."""
    return signed(16 + (config.rows - 1).bit_length())


class Array(wiring.Component):
    """What every matrix array has in common: multiplies a word of `rows` int8 by a weight tile.

    Weights are double-buffered: `weight_write` fills the shadow tile row by row while the active
    tile computes; a word that comes with `swap` is the first to use what the shadow holds. All rows
    are written before that, in ascending order from row 0, which may be written again from the
    cycle of the swap on. One word a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    weight_write, weight_row, weight_data : In   one row of cols int8 for the shadow tile
    valid, swap : In
    word : In   rows x int8
    sums : Out   cols x signed(16 + log2(rows)), `latency` cycles after `word`
    """

    weight_data: Any
    word: Any
    sums: Any
    weight_write: Signal
    weight_row: Signal
    valid: Signal
    swap: Signal

    latency: int
    """Cycles from a word at the input to its sums at the output."""

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "weight_write": In(1),
            "weight_row": In(range(config.rows)),
            "weight_data": In(data.ArrayLayout(signed(8), config.cols)),
            "valid": In(1),
            "swap": In(1),
            "word": In(data.ArrayLayout(signed(8), config.rows)),
            "sums": Out(data.ArrayLayout(sum_shape(config), config.cols)),
        })


ArrayFactory = Callable[..., Array]
"""Makes an array from the keyword argument `config`."""


class MatrixArray(Array):
    """The plain array: a multiplier for each element, an adder tree for each column, latency 3.

    It takes any int8 as a weight, and simulates fast. Ports and parameters are those of Array.
    """

    latency = 3

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self._config.rows
        activations = [Signal(signed(8), name=f"activation_{row}", reset_less=True)
                       for row in range(rows)]
        enable = Signal(2)
        m.d.sync += enable.eq((enable << 1) | self.valid)
        with m.If(self.valid):
            m.d.sync += [activations[row].eq(self.word[row]) for row in range(rows)]
        for col in range(self._config.cols):
            column = Column(rows=rows, sum_shape=sum_shape(self._config))
            m.submodules[f"column_{col}"] = column
            m.d.comb += [
                column.weight_write.eq(self.weight_write),
                column.weight_row.eq(self.weight_row),
                column.weight.eq(self.weight_data[col]),
                column.swap.eq(self.valid & self.swap),
                column.multiply.eq(enable[0]),
                column.add.eq(enable[1]),
                self.sums[col].eq(column.sum),
            ]
            m.d.comb += [column.activations[row].eq(activations[row]) for row in range(rows)]
        return m


class Column(wiring.Component):
    """One output channel: `rows` products, then their sum, each behind a register."""

    activations: Any
    weight_write: Signal
    weight_row: Signal
    weight: Signal
    swap: Signal
    multiply: Signal
    add: Signal
    sum: Signal

    def __init__(self, *, rows: int, sum_shape: Shape) -> None:
        self._rows = rows
        super().__init__({
            "weight_write": In(1),
            "weight_row": In(range(rows)),
            "weight": In(signed(8)),
            "swap": In(1),
            "multiply": In(1),
            "add": In(1),
            "activations": In(data.ArrayLayout(signed(8), rows)),
            "sum": Out(sum_shape),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        products: list[Value] = []
        for row in range(self._rows):
            shadow = Signal(signed(8), name=f"shadow_{row}", reset_less=True)
            active = Signal(signed(8), name=f"active_{row}", reset_less=True)
            product = Signal(signed(16), name=f"product_{row}", reset_less=True)
            with m.If(self.weight_write & (self.weight_row == row)):
                m.d.sync += shadow.eq(self.weight)
            with m.If(self.swap):
                m.d.sync += active.eq(shadow)
            with m.If(self.multiply):
                m.d.sync += product.eq(self.activations[row] * active)
            products.append(product)
        while len(products) > 1:  # a balanced tree
            pairs = zip(products[::2], products[1::2], strict=True)
            products = [first + second for first, second in pairs]
        total = Signal.like(self.sum, reset_less=True)
        m.d.comb += self.sum.eq(total)
        with m.If(self.add):
            m.d.sync += total.eq(products[0])
        return m
