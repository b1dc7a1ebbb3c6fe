"""Walks a loop nest over a feature region and yields bank addresses, one position a cycle."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.layouts import feature_address_bits
from pliant_hw.products import row_products

COORDINATE_BITS = 17
"""Signed; holds origin + (kernel - 1)*dilation + (out - 1)*stride for all encodable fields."""

STRIDE_BITS = 16
ROW_STRIDE_BITS = 12
SIZE_BITS = 11
STEP_BITS = 4

NEST = data.StructLayout({
    "base": unsigned(16),
    "group_stride": unsigned(STRIDE_BITS),
    "row_stride": unsigned(ROW_STRIDE_BITS),
    "height": unsigned(SIZE_BITS),
    "width": unsigned(SIZE_BITS),
    "origin_y": signed(12),
    "origin_x": signed(12),
    "groups": unsigned(12),
    "outer_height": unsigned(SIZE_BITS),
    "outer_width": unsigned(SIZE_BITS),
    "outer_step_y": unsigned(STEP_BITS),
    "outer_step_x": unsigned(STEP_BITS),
    "inner_height": unsigned(SIZE_BITS),
    "inner_width": unsigned(SIZE_BITS),
    "inner_step_y": unsigned(STEP_BITS),
    "inner_step_x": unsigned(STEP_BITS),
})
"""A loop nest: lane group, outer row, outer column, inner row, inner column (fastest).

The position is ``origin + outer*outer_step + inner*inner_step`` per axis. A convolution has the
kernel outside and the output pixels inside. (The windows of poolings are cut by
:class:`pliant_hw.patches.PatchWalker`, plain rectangles by
:class:`pliant_hw.rectangle.RectangleWalker`.)
"""


COORDINATES = data.StructLayout({
    "y": signed(COORDINATE_BITS),
    "x": signed(COORDINATE_BITS),
    "group_base": unsigned(16),
    "outer_first": unsigned(1),
    "outer_y": unsigned(SIZE_BITS),
    "outer_x": unsigned(SIZE_BITS),
})
"""Where a position is: row and column, base address of its lane group, outer loops' indices.

`outer_first` marks the first of them.
"""


def position_layout(config: AcceleratorConfig, tag: ShapeLike) -> data.StructLayout:
    """Return what a walker yields for one position.

    `inside` tells whether the position is in ``[0, height) x [0, width)``; `bank` and `address`
    mean nothing otherwise. `inner_first` marks the begin of the inner pair of loops, `first` the
    whole first inner pair, `last` the very last position; `tag` comes with the nest.
    """
    return data.StructLayout({
        "at": COORDINATES,
        "bank": unsigned(2),
        "address": unsigned(feature_address_bits(config)),
        "inside": unsigned(1),
        "inner_first": unsigned(1),
        "first": unsigned(1),
        "last": unsigned(1),
        "tag": tag,
    })


class Walker(wiring.Component):
    """Turns a loop nest into positions, one a cycle; latency 3, no bubble between nests.

    Parameters
    ----------
    config : AcceleratorConfig
    tag : shape
        Of a value that accompanies a nest and comes back with each of its positions.

    Members
    -------
    nest : In(stream)   NEST and tag
    position : Out(stream)   see position_layout
    """

    nest: Any
    position: Any

    def __init__(self, *, config: AcceleratorConfig, tag: ShapeLike = 0) -> None:
        self._config = config
        self._tag = tag
        super().__init__({
            "nest": In(stream.Signature(data.StructLayout({"nest": NEST, "tag": tag}))),
            "position": Out(stream.Signature(position_layout(config, tag))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address_bits = feature_address_bits(self._config)
        coordinate = signed(COORDINATE_BITS)

        advance = Signal()  # all stages move together
        m.d.comb += advance.eq(~self.position.valid | self.position.ready)

        # Stage 0: counters and coordinates.
        nest: Any = Signal(NEST)
        tag = Signal(self._tag)
        running = Signal()
        first = Signal()
        group_base = Signal(address_bits)
        group, outer_y, outer_x, inner_y, inner_x = (
            Signal(range(1 << bits), name=name)
            for name, bits in (("group", 12), ("outer_y", SIZE_BITS), ("outer_x", SIZE_BITS),
                               ("inner_y", SIZE_BITS), ("inner_x", SIZE_BITS))
        )
        start_y, start_x, y, x = (
            Signal(coordinate, name=name) for name in ("start_y", "start_x", "y", "x")
        )

        # Whether loops are at their ends is found as their indices change: in the same cycle it
        # would be too deep. `one_...` are loops of one round, `..._end` the indices of the last
        # round but one.
        inner_x_last, inner_y_last, inner_last = Signal(), Signal(), Signal()
        one_inner_x, one_inner_y = Signal(), Signal()
        inner_x_end, inner_y_end = Signal(SIZE_BITS), Signal(SIZE_BITS)
        outer_x_last, outer_y_last, group_last = Signal(), Signal(), Signal()
        one_outer_x, one_outer_y = Signal(), Signal()
        outer_x_end, outer_y_end = Signal(SIZE_BITS), Signal(SIZE_BITS)
        group_end = Signal(12)
        outer_last = Signal()
        last = Signal()
        m.d.comb += [
            inner_last.eq(inner_x_last & inner_y_last),
            outer_last.eq(outer_x_last & outer_y_last),
            last.eq(inner_last & outer_last & group_last),
            self.nest.ready.eq(~running | (advance & last)),
        ]

        with m.If(running & advance):
            m.d.sync += [inner_x.eq(inner_x + 1), x.eq(x + nest.inner_step_x),
                         inner_x_last.eq(inner_x == inner_x_end)]
            with m.If(inner_x_last):
                m.d.sync += [inner_x.eq(0), x.eq(start_x), inner_x_last.eq(one_inner_x),
                             inner_y.eq(inner_y + 1), y.eq(y + nest.inner_step_y),
                             inner_y_last.eq(inner_y == inner_y_end)]
            with m.If(inner_last):
                next_x = start_x + nest.outer_step_x
                next_y = start_y + nest.outer_step_y
                m.d.sync += [
                    inner_y.eq(0), y.eq(start_y), inner_y_last.eq(one_inner_y), first.eq(0),
                    outer_x.eq(outer_x + 1), start_x.eq(next_x), x.eq(next_x),
                    outer_x_last.eq(outer_x == outer_x_end),
                ]
                with m.If(outer_x_last):
                    m.d.sync += [
                        outer_x.eq(0), start_x.eq(nest.origin_x), x.eq(nest.origin_x),
                        outer_y.eq(outer_y + 1), start_y.eq(next_y), y.eq(next_y),
                        outer_x_last.eq(one_outer_x),
                        outer_y_last.eq(outer_y == outer_y_end),
                    ]
                with m.If(outer_last):
                    m.d.sync += [
                        outer_y.eq(0), start_y.eq(nest.origin_y), y.eq(nest.origin_y),
                        group.eq(group + 1), outer_y_last.eq(one_outer_y),
                    ]
            with m.If(last):
                m.d.sync += running.eq(0)
        # The lane group comes to its end with all other loops. `advance` comes late, so that the
        # rest is known without it; kept apart, or synthesis makes one chain of all.
        new = self.nest.payload.nest
        ends = Signal()
        may_move, must_move = Signal(attrs={"keep": 1}), Signal(attrs={"keep": 1})
        m.d.comb += [
            ends.eq(~running | (inner_last & outer_last & group_last)),
            may_move.eq(Mux(ends, self.nest.valid, inner_last & outer_last)),
            must_move.eq(self.nest.valid & ~running),
        ]
        with m.If((advance & may_move) | must_move):
            m.d.sync += [
                group_base.eq(Mux(ends, new.base, group_base + nest.group_stride)),
                group_last.eq(Mux(ends, new.groups == 1, group == group_end)),
            ]
        with m.If(self.nest.valid & self.nest.ready):
            m.d.sync += [
                nest.eq(new), tag.eq(self.nest.payload.tag), running.eq(1), first.eq(1),
                inner_x_end.eq(new.inner_width - 2), inner_y_end.eq(new.inner_height - 2),
                inner_x_last.eq(new.inner_width == 1), one_inner_x.eq(new.inner_width == 1),
                inner_y_last.eq(new.inner_height == 1), one_inner_y.eq(new.inner_height == 1),
                outer_x_end.eq(new.outer_width - 2), outer_y_end.eq(new.outer_height - 2),
                group_end.eq(new.groups - 2),
                group.eq(0),
                outer_x_last.eq(new.outer_width == 1), one_outer_x.eq(new.outer_width == 1),
                outer_y_last.eq(new.outer_height == 1), one_outer_y.eq(new.outer_height == 1),
                outer_y.eq(0), outer_x.eq(0), inner_y.eq(0), inner_x.eq(0),
                start_y.eq(new.origin_y), start_x.eq(new.origin_x),
                y.eq(new.origin_y), x.eq(new.origin_x),
            ]

        # Stage 1: bounds and the row product in two parts; stage 2 adds up.
        valid = Signal()
        row_low, row_high = Signal(address_bits), Signal(address_bits)
        column = Signal(address_bits)
        flags: Any = Signal(position_layout(self._config, self._tag))
        out = self.position.payload
        low, high = row_products(
            m, y[1:SIZE_BITS + 1], nest.row_stride, "row_product", address_bits)
        with m.If(advance):
            m.d.sync += [
                valid.eq(running),
                row_low.eq(low), row_high.eq(high),
                column.eq(group_base + x[1:SIZE_BITS + 1]),
                flags.bank.eq(Cat(x[0], y[0]) ^ group_base[:2]),
                flags.inside.eq((y >= 0) & (y < nest.height) & (x >= 0) & (x < nest.width)),
                flags.inner_first.eq((inner_x == 0) & (inner_y == 0)),
                flags.first.eq(first),
                flags.last.eq(last),
                flags.tag.eq(tag),
                flags.at.y.eq(y), flags.at.x.eq(x), flags.at.group_base.eq(group_base),
                flags.at.outer_first.eq((outer_x == 0) & (outer_y == 0)),
                flags.at.outer_y.eq(outer_y), flags.at.outer_x.eq(outer_x),
                self.position.valid.eq(valid),
                out.eq(flags),
                out.address.eq(row_low + row_high + column),
            ]
        return m
