"""Walks a rectangle of a feature region and yields bank addresses, one pixel a cycle."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, fields
from pliant_hw.layouts import feature_address_bits
from pliant_hw.products import row_products

_WIDTHS = {field.name: field.width for field in fields(Post)}

RECTANGLE = data.StructLayout({
    "base": unsigned(_WIDTHS["destination"]),
    "group_stride": unsigned(_WIDTHS["destination_group_stride"]),
    "row_stride": unsigned(_WIDTHS["destination_row_stride"]),
    "y": unsigned(_WIDTHS["destination_y"]),
    "x": unsigned(_WIDTHS["destination_x"]),
    "groups": unsigned(_WIDTHS["groups"]),
    "height": unsigned(_WIDTHS["out_height"]),
    "width": unsigned(_WIDTHS["out_width"]),
    "by_pixel": unsigned(1),
    "pixels": unsigned(FEATURE_BANKS),
})
"""Pixels of a region from row `y`, column `x` on, for each of its lane groups.

With `by_pixel`, each pixel's lane groups follow one another. With `pixels`, blocks of 2x2, of which
`y` and `x` are the first one's pixel (0, 0); bit ``2*i + j`` stands for their pixel (i, j).
"""

COORDINATE_BITS = 2 + max(RECTANGLE[name].width for name in ("y", "x", "height", "width"))


def place_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return where a pixel lies; `last` marks the rectangle's last one.

    `by_pixel` is the rectangle's, `pixels` are the banks of its `pixels`: of blocks, the address is
    that of all.
    """
    return data.StructLayout({
        "bank": unsigned(2),
        "address": unsigned(feature_address_bits(config)),
        "last": unsigned(1),
        "by_pixel": unsigned(1),
        "pixels": unsigned(FEATURE_BANKS),
    })


def skewed(pixels: Value, skew: Value) -> Value:
    """Return the banks of a set of pixels of a 2x2 block, bit by bit.

    `skew` are the low two bits of the address where the lane group begins. It is its own inverse.
    """
    rows = Mux(skew[1], Cat(pixels[2:], pixels[:2]), pixels)
    return Mux(skew[0], Cat(rows[1], rows[0], rows[3], rows[2]), rows)


class RectangleWalker(wiring.Component):
    """Yields the places of a rectangle, one a cycle; latency 3, no bubble between rectangles.

    Order: column fastest, then row, then lane group; with `by_pixel`, lane group fastest, then
    column, then row.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    rectangle : In(stream)   RECTANGLE
    place : Out(stream)   see place_layout
    """

    rectangle: Any
    place: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "rectangle": In(stream.Signature(RECTANGLE)),
            "place": Out(stream.Signature(place_layout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address_bits = feature_address_bits(self._config)
        advance = Signal()  # all stages move together
        m.d.comb += advance.eq(~self.place.valid | self.place.ready)

        # Stage 0: what is left counts down; whether it is the last is known one step ahead.
        current: Any = Signal(RECTANGLE)
        running = Signal()
        group_base = Signal(address_bits)
        y, x = Signal(COORDINATE_BITS), Signal(COORDINATE_BITS)
        columns_left, rows_left, groups_left = (
            Signal(RECTANGLE[name].width, name=f"{name}_left")
            for name in ("width", "height", "groups"))
        last_column, last_row, last_group = Signal(), Signal(), Signal()
        one_column, one_row, one_group = Signal(), Signal(), Signal()
        column_moves, row_moves, group_moves = Signal(), Signal(), Signal()
        last = Signal()
        step = Signal(2)
        m.d.comb += [
            step.eq(Mux(current.pixels.any(), 2, 1)),
            column_moves.eq(~current.by_pixel | last_group),
            row_moves.eq(column_moves & last_column),
            group_moves.eq(current.by_pixel | (last_column & last_row)),
            last.eq(last_column & last_row & last_group),
            self.rectangle.ready.eq(~running | (advance & last)),
        ]
        with m.If(running & advance):
            with m.If(column_moves):
                m.d.sync += [x.eq(x + step), columns_left.eq(columns_left - 1),
                             last_column.eq(columns_left == 2)]
            with m.If(row_moves):
                m.d.sync += [x.eq(current.x), columns_left.eq(current.width),
                             last_column.eq(one_column), y.eq(y + step),
                             rows_left.eq(rows_left - 1), last_row.eq(rows_left == 2)]
                with m.If(last_row):
                    m.d.sync += [y.eq(current.y), rows_left.eq(current.height),
                                 last_row.eq(one_row)]
            with m.If(group_moves):
                m.d.sync += [groups_left.eq(groups_left - 1), last_group.eq(groups_left == 2),
                             group_base.eq(group_base + current.group_stride)]
                with m.If(current.by_pixel & last_group):
                    m.d.sync += [groups_left.eq(current.groups), last_group.eq(one_group),
                                 group_base.eq(current.base)]
            with m.If(last):
                m.d.sync += running.eq(0)
        new = self.rectangle.payload
        with m.If(self.rectangle.valid & self.rectangle.ready):
            m.d.sync += [
                current.eq(new), running.eq(1), group_base.eq(new.base), y.eq(new.y), x.eq(new.x),
                columns_left.eq(new.width), last_column.eq(new.width == 1),
                one_column.eq(new.width == 1),
                rows_left.eq(new.height), last_row.eq(new.height == 1), one_row.eq(new.height == 1),
                groups_left.eq(new.groups), last_group.eq(new.groups == 1),
                one_group.eq(new.groups == 1),
            ]

        # Stage 1: the row product in two parts; stage 2 adds up.
        valid = Signal()
        row_low, row_high = Signal(address_bits), Signal(address_bits)
        column = Signal(address_bits)
        early: Any = Signal(place_layout(self._config))
        place = self.place.payload
        low, high = row_products(m, y[1:], current.row_stride, "row_product", address_bits)
        skew = group_base[:2]
        with m.If(advance):
            m.d.sync += [
                valid.eq(running),
                row_low.eq(low), row_high.eq(high), column.eq(group_base + x[1:]),
                early.bank.eq(Cat(x[0], y[0]) ^ skew), early.last.eq(last),
                early.by_pixel.eq(current.by_pixel),
                early.pixels.eq(skewed(current.pixels, skew)),
                self.place.valid.eq(valid),
                place.eq(early), place.address.eq(row_low + row_high + column),
            ]
        return m


def connect_rectangle(
    m: Module, walker: RectangleWalker, instruction: Any, name: str, *,
    pixels: Any = 0, by_pixel: Any = 0, groups: Any = None,
) -> None:
    """Give a walker the rectangle of a Post's destination or residual, by that `name`.

    It has the instruction's lane groups, or as many as `groups` says.
    """
    rectangle = walker.rectangle.payload
    m.d.comb += [
        rectangle.base.eq(instruction[name]),
        *(rectangle[part].eq(instruction[f"{name}_{part}"])
          for part in ("group_stride", "row_stride", "y", "x")),
        rectangle.groups.eq(instruction.groups if groups is None else groups),
        rectangle.height.eq(instruction.out_height), rectangle.width.eq(instruction.out_width),
        rectangle.pixels.eq(pixels), rectangle.by_pixel.eq(by_pixel),
    ]
