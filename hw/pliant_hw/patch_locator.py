"""Finds the banks and addresses of a patch's words."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post
from pliant.spec.sampling import FRACTION_BITS
from pliant_hw.layouts import feature_address_bits, instruction_layout
from pliant_hw.pipeline import loaded
from pliant_hw.products import PATCH_TAPS, joined_row, row_parts
from pliant_hw.tap_displacer import MOVED_BITS
from pliant_hw.walker import COORDINATE_BITS, SIZE_BITS

PLACING = ("height", "width", "dilation_y", "dilation_x", "window_row_stride",
           "window_group_stride")
"""What of a Post instruction is needed to find the words of its windows."""


def tap_address_bits(config: AcceleratorConfig) -> int:
    """Return the width of an address in the tap buffer."""
    return (config.tap_depth - 1).bit_length()


def patch_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what is known of a patch besides its words.

    `present` marks taps that belong to the window, `inside` those within the region. Tap (0, 0)
    lies in bank ``2*odd_y + odd_x``. `first` and `last` mark the ends of a window.
    `pair`: the window is that of two outputs. `own`: the patch has a word of taps, `tap`; it has
    none behind the first output's columns. `previous`: it is not the first of its row.
    `starts`, `starts_group`: the window is the first of its instruction, of its lane group. `final`
    marks the instruction's last patch.

    A `displaced` patch is one tap of a window, for up to four lane groups: words, `present` and
    `inside` are theirs. Lane group 0 lies in bank ``2*odd_y + odd_x``, and where `crossed`, lane
    groups 1 and 3 lie in each other's bank.
    """
    return data.StructLayout({
        "present": unsigned(PATCH_TAPS),
        "inside": unsigned(PATCH_TAPS),
        "odd_y": unsigned(1),
        "odd_x": unsigned(1),
        "displaced": unsigned(1),
        "crossed": unsigned(1),
        "first": unsigned(1),
        "last": unsigned(1),
        "pair": unsigned(1),
        "own": unsigned(1),
        "previous": unsigned(1),
        "starts": unsigned(1),
        "starts_group": unsigned(1),
        "final": unsigned(1),
        "tap": unsigned(tap_address_bits(config)),
    })


def position_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a patch with its row and column and what is needed to find its words.

    `base` is where its lane group begins, the first one's of a displaced patch, which `moved_y` and
    `moved_x` move, in sixteenths.
    """
    fields = instruction_layout(Post)
    return data.StructLayout({
        "patch": patch_layout(config),
        "y": signed(COORDINATE_BITS),
        "x": signed(COORDINATE_BITS),
        "moved_y": signed(MOVED_BITS),
        "moved_x": signed(MOVED_BITS),
        "base": unsigned(feature_address_bits(config)),
        **{name: fields[name].shape for name in PLACING},
    })


def request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a patch with the banks that it needs and an address for each."""
    return data.StructLayout({
        "patch": patch_layout(config),
        "need": unsigned(FEATURE_BANKS),
        "address": data.ArrayLayout(unsigned(feature_address_bits(config)), FEATURE_BANKS),
    })


class PatchLocator(wiring.Component):
    """Asks for the words of patches, one patch a cycle, latency 4.

    Members
    -------
    position : In(stream)   see position_layout; `inside`, `odd_y`, `odd_x`, `crossed` are set here
    request : Out(stream)   see request_layout
    """

    position: Any
    request: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "position": In(stream.Signature(position_layout(config))),
            "request": Out(stream.Signature(request_layout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        address_bits = feature_address_bits(config)
        advance = Signal()  # all stages move together
        m.d.comb += [advance.eq(~self.request.valid | self.request.ready),
                     self.position.ready.eq(advance)]

        def later(value: Any, name: str) -> Any:
            return loaded(m, advance, value, name)

        def registered(value: Value, width: int, name: str) -> Signal:
            """Return `value` a stage later, cut to `width`."""
            register = Signal(width, name=name, reset_less=True)
            with m.If(advance):
                m.d.sync += register.eq(value)
            return register

        valid = Signal(3)
        with m.If(advance):
            m.d.sync += [valid.eq(Cat(self.position.valid, valid)), self.request.valid.eq(valid[2])]

        # Stage 1: coordinates of both rows and columns.
        given = self.position.payload
        rows, columns = (
            [registered(value, COORDINATE_BITS, f"{name}_{index}").as_signed()
             for index, value in enumerate((_nearest(start, moved), start + dilation))]
            for name, start, moved, dilation in (
                ("row", given.y, given.moved_y, given.dilation_y),
                ("column", given.x, given.moved_x, given.dilation_x)))
        given = later(given, "given")

        # Stage 2: bounds and products. A displaced patch has one row and column.
        displaced = given.patch.displaced
        products = [
            [registered(part, address_bits, f"row_{index}_{number}")
             for number, part in enumerate(row_parts(
                 m, row[1:SIZE_BITS], given.window_row_stride, f"row_product_{index}"))]
            for index, row in enumerate(rows)]
        column_offsets = [registered(given.base + column[1:SIZE_BITS], address_bits,
                                     f"column_offset_{index}")
                          for index, column in enumerate(columns)]
        inside_y, inside_x = (
            [(place >= 0) & (place < size) for place in places]
            for places, size in ((rows, given.height), (columns, given.width)))
        stride = given.window_group_stride
        crossed = displaced & (given.base[0] ^ stride[1])
        group_offsets = [
            registered(stride + Mux(crossed, stride << 1, 0), address_bits, "group_offset_1"),
            registered(stride << 1, address_bits, "group_offset_2"),
            registered(stride + Mux(crossed, 0, stride << 1), address_bits, "group_offset_3")]
        patch: Any = Signal(patch_layout(config), name="bounded", reset_less=True)
        with m.If(advance):
            m.d.sync += [
                patch.eq(given.patch),
                patch.odd_y.eq(rows[0][0] ^ given.base[1]),
                patch.odd_x.eq(columns[0][0] ^ given.base[0]),
                patch.crossed.eq(crossed),
                patch.inside.eq(Cat(
                    Mux(displaced, inside_y[0] & inside_x[0], inside_y[i] & inside_x[j])
                    for i in range(2) for j in range(2))),
            ]

        # Stage 3: what depends on the row; what depends on column and lane group.
        # A bank's tap differs from tap (0, 0) by a row, a column or both; crossed lane groups
        # changed places.
        displaced = patch.displaced
        wanted = patch.present & patch.inside
        wanted = Cat(wanted[0], Mux(patch.crossed, wanted[3], wanted[1]), wanted[2],
                     Mux(patch.crossed, wanted[1], wanted[3]))
        row_offsets = [registered(joined_row(parts), address_bits, f"row_offset_{index}")
                       for index, parts in enumerate(products)]
        second_rows, needs, column_terms = [], [], []
        for bank in range(FEATURE_BANKS):
            tap = Signal(2, name=f"tap_{bank}")
            m.d.comb += tap.eq(Cat(patch.odd_x, patch.odd_y) ^ bank)
            group_offset = Mux(tap[1], Mux(tap[0], group_offsets[2], group_offsets[1]),
                               Mux(tap[0], group_offsets[0], 0))
            column_offset = Mux(tap[0] & ~displaced, column_offsets[1], column_offsets[0])
            column_terms.append(registered(
                column_offset + Mux(displaced, group_offset, 0), address_bits,
                f"column_term_{bank}"))
            second_rows.append(registered(tap[1] & ~displaced, 1, f"second_row_{bank}"))
            needs.append(registered(wanted.bit_select(tap, 1), 1, f"need_{bank}"))
        patch = later(patch, "wanted")

        # Stage 4: to the banks.
        request = self.request.payload
        with m.If(advance):
            m.d.sync += [request.patch.eq(patch), request.need.eq(Cat(needs))]
            for bank in range(FEATURE_BANKS):
                m.d.sync += request.address[bank].eq(
                    Mux(second_rows[bank], row_offsets[1], row_offsets[0]) + column_terms[bank])
        return m


def _nearest(pixel: Value, moved: Value) -> Value:
    """Return the pixel nearest to `pixel` moved by some sixteenths, half a pixel up."""
    half = Const(1 << FRACTION_BITS - 1, FRACTION_BITS)
    return (Cat(half, pixel).as_signed() + moved) >> FRACTION_BITS
