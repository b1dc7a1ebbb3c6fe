"""The front of the sampler: moves positions by their offsets and asks for 2x2 neighbours."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.sampling import FRACTION_BITS, MASK_ONE, MAX_SCALED_KERNEL, Offsets
from pliant_hw.layouts import feature_address_bits
from pliant_hw.pipeline import loaded
from pliant_hw.products import joined_row, lut_product, row_parts
from pliant_hw.walker import COORDINATE_BITS, ROW_STRIDE_BITS, SIZE_BITS, position_layout

NEIGHBOURS = 4
"""Pixels (0, 0), (0, 1), (1, 0), (1, 1) from the one at or before a position on."""

ANCHOR_BITS = (MAX_SCALED_KERNEL // 2).bit_length()

DISPLACEMENT = data.StructLayout({
    "height": unsigned(SIZE_BITS),
    "width": unsigned(SIZE_BITS),
    "row_stride": unsigned(ROW_STRIDE_BITS),
    "offsets": Offsets,
    "interpolate": unsigned(1),
    "shift": unsigned(3),
    "minimum": signed(8),
    "maximum": signed(8),
    "centre_y": unsigned(ANCHOR_BITS),
    "centre_x": unsigned(ANCHOR_BITS),
})
"""What of a Matrix instruction the displacer needs; travels with each position."""


def displacement_fields(instruction: Any, to: Any) -> list[Any]:
    """Return the assignments that fill `to`, a DISPLACEMENT, from a decoded Matrix."""
    return [
        to.height.eq(instruction.height), to.width.eq(instruction.width),
        to.row_stride.eq(instruction.row_stride), to.offsets.eq(instruction.offsets),
        to.interpolate.eq(instruction.interpolate), to.shift.eq(instruction.offset_shift),
        to.minimum.eq(instruction.offset_min), to.maximum.eq(instruction.offset_max),
        to.centre_y.eq(instruction.kernel_height >> 1),
        to.centre_x.eq(instruction.kernel_width >> 1),
    ]


def sample_layout(config: AcceleratorConfig, tag: ShapeLike) -> data.StructLayout:
    """Return a request for the neighbours of one position.

    `need` are the banks to read, `address` the place in each. Neighbour (i, j) is in the bank
    ``bank ^ (2*i + j)``; it lies in the region if its bit of `inside` is set.
    `displaced` positions are interpolated by the fractions, in sixteenths, and multiplied by
    `factor`. The rest is the position's own.
    """
    return data.StructLayout({
        "need": unsigned(FEATURE_BANKS),
        "address": data.ArrayLayout(unsigned(feature_address_bits(config)), FEATURE_BANKS),
        "bank": unsigned(2),
        "inside": unsigned(NEIGHBOURS),
        "displaced": unsigned(1),
        "fraction_y": unsigned(FRACTION_BITS),
        "fraction_x": unsigned(FRACTION_BITS),
        "factor": unsigned(8),
        "inner_first": unsigned(1),
        "first": unsigned(1),
        "last": unsigned(1),
        "tag": tag,
    })


class Displacer(wiring.Component):
    """Moves the taps of a deformable convolution, one position a cycle, latency 9.

    Implements :func:`pliant.spec.sampling.displacement`. Positions of plain instructions pass
    undisplaced.

    Parameters
    ----------
    config : AcceleratorConfig
    tag : data.StructLayout
        What goes on with a position.

    Members
    -------
    position : In(stream)   of a Walker whose tag is {displacement, tag}
    enable, offset_address, mask_address : Out, offset, mask : In   see OffsetMemory
    sample : Out(stream)   see sample_layout
    """

    position: Any
    sample: Any
    enable: Signal
    offset_address: Signal
    mask_address: Signal
    offset: Signal
    mask: Signal

    def __init__(self, *, config: AcceleratorConfig, tag: data.StructLayout) -> None:
        self._config = config
        self.tag = data.StructLayout({"displacement": DISPLACEMENT, "tag": tag})
        super().__init__({
            "position": In(stream.Signature(position_layout(config, self.tag))),
            "enable": Out(1),
            "offset_address": Out(range(config.offset_depth)),
            "mask_address": Out(range(config.mask_depth)),
            "offset": In(8 * config.lanes),
            "mask": In(8 * config.lanes),
            "sample": Out(stream.Signature(sample_layout(config, tag))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        address_bits = feature_address_bits(config)
        advance = Signal()  # all stages move together
        m.d.comb += [advance.eq(~self.sample.valid | self.sample.ready),
                     self.position.ready.eq(advance), self.enable.eq(advance)]
        valid = self.position.valid
        place = [self.position.payload]

        def later(value: Any, name: str) -> Any:
            return loaded(m, advance, value, name)

        def stage() -> Any:
            """Move valid bit and position to the next stage; return the position."""
            nonlocal valid
            number = len(place)
            following = Signal(name=f"valid_{number}")
            with m.If(advance):
                m.d.sync += following.eq(valid)
            valid = following
            position: Any = Signal(self.position.payload.shape(), name=f"position_{number}",
                                   reset_less=True)
            with m.If(advance):
                m.d.sync += position.eq(place[-1])
            place.append(position)
            return position

        # Stage 1: where the tap's offsets lie. Stage 2: the memory.
        scaled = place[0].tag.displacement.offsets == Offsets.SCALED
        moves = valid & advance
        offset_lane = self._word(m, self.offset_address, moves, 2, ~scaled, "offset")
        mask_lane = self._word(m, self.mask_address, moves, 1, 1, "mask")
        stage()
        offset_lane, mask_lane = later(offset_lane, "offset_from"), later(mask_lane, "mask_from")
        stage()

        # Stage 3: one tap's of the word's; what scales the kernel does so along both axes.
        scales = place[-1].tag.displacement.offsets == Offsets.SCALED
        at = stage()
        found = self.offset.word_select(offset_lane[1:], 16)
        pair = later(Cat(found[:8], Mux(scales, found[:8], found[8:])), "pair")
        factor = later(self.mask.word_select(mask_lane, 8) ^ MASK_ONE, "raw_factor")
        modulated = at.tag.displacement.offsets == Offsets.MODULATED

        # Stage 4: clamp and shift. By how much a tap's place in the kernel scales that: 0 without
        # offsets, 1 if each tap has its own.
        given = at.tag.displacement
        anchors = []
        for name, outer, centre in (("y", at.at.outer_y, given.centre_y),
                                    ("x", at.at.outer_x, given.centre_x)):
            anchor = Signal(signed(1 + ANCHOR_BITS), name=f"anchor_{name}", reset_less=True)
            with m.If(advance):
                m.d.sync += anchor.eq(Mux(
                    given.offsets == Offsets.SCALED, outer[:1 + ANCHOR_BITS] - centre,
                    given.offsets != Offsets.NONE))
            anchors.append(anchor)
        factor = later(Mux(modulated, factor, MASK_ONE), "factor_4")
        moved = []
        for name, value in (("y", pair[:8].as_signed()), ("x", pair[8:].as_signed())):
            clamped = Signal(signed(8), name=f"clamped_{name}")
            shifted = Signal(signed(8 + FRACTION_BITS), name=f"shifted_{name}", reset_less=True)
            m.d.comb += clamped.eq(Mux(value < given.minimum, given.minimum, Mux(
                value > given.maximum, given.maximum, value)))
            with m.If(advance):
                m.d.sync += shifted.eq(clamped << given.shift)
            moved.append(shifted)
        at = stage()

        # Stage 5: scale; stage 6: the position.
        given = at.tag.displacement
        factor = later(factor, "factor_5")
        half = Mux((given.offsets != Offsets.NONE) & ~given.interpolate,
                   1 << FRACTION_BITS - 1, 0)
        displaced = []
        for name, value, anchor in (("y", moved[0], anchors[0]), ("x", moved[1], anchors[1])):
            by = Signal(signed(9 + FRACTION_BITS + ANCHOR_BITS), name=f"by_{name}", reset_less=True)
            product = lut_product(m, value, anchor, f"scaled_{name}")
            with m.If(advance):
                m.d.sync += by.eq(product)
            displaced.append(by)
        half = later(half, "half")
        at = stage()
        rows, behind = [], []
        for name, value, start in (("y", displaced[0], at.at.y), ("x", displaced[1], at.at.x)):
            sixteenths, next_pixel = (
                Signal(signed(COORDINATE_BITS + FRACTION_BITS), name=f"{what}_{name}",
                       reset_less=True) for what in ("sixteenths", "next_pixel"))
            position = (start << FRACTION_BITS) + value + half
            with m.If(advance):
                m.d.sync += [sixteenths.eq(position),
                             next_pixel.eq(position + (1 << FRACTION_BITS))]
            rows.append(sixteenths)
            behind.append(next_pixel[FRACTION_BITS + 1:])
        factor = later(factor, "factor_6")
        at = stage()

        # Stage 7: bounds and products. Of two neighbouring rows r and r + 1, the even one is in row
        # (r + 1) >> 1 of addresses, the odd one there too, or one before if r is odd. So no address
        # is negative of a pixel that is inside.
        given = at.tag.displacement
        exact = (given.offsets == Offsets.NONE) | ~given.interpolate
        row, column = (value[FRACTION_BITS:].as_signed() for value in rows)
        fraction_y, fraction_x = (
            later(Mux(exact, 0, value[:FRACTION_BITS]), f"fraction_{name}")
            for name, value in (("y", rows[0]), ("x", rows[1])))
        parts = [later(part, f"row_part_{index}") for index, part in enumerate(
            row_parts(m, behind[0][:SIZE_BITS], given.row_stride, "row_product"))]
        inside_y, inside_x = (
            [later(self._inside(value, size), f"inside_{name}_0"),
             later(self._inside(value + 1, size), f"inside_{name}_1")]
            for name, value, size in (("y", row, given.height), ("x", column, given.width)))
        odd_y, odd_x = later(row[0], "odd_y_7"), later(column[0], "odd_x_7")
        column_address = later((at.at.group_base + behind[1][:SIZE_BITS])[:address_bits],
                               "column_address")
        factor = later(factor, "factor_7")
        at = stage()

        # Stage 8: row addresses; stage 9: all of them. Bit 1 of a bank and of where the lane group
        # begins tell the parity of the bank's row, bit 0 that of the column.
        given = at.tag.displacement
        skew = at.at.group_base[:2]
        even = joined_row(parts)
        row_address, column_addresses = [], []
        for bit in range(2):
            row_before, column_before = odd_y & (skew[1] ^ bit), odd_x & (skew[0] ^ bit)
            row_address.append(later(
                (even - Mux(row_before, given.row_stride, 0))[:address_bits],
                f"row_address_{bit}"))
            column_addresses.append(later(
                (column_address - column_before)[:address_bits], f"column_address_{bit}"))
        inside = later(Cat(inside_y[i] & inside_x[j] for i in range(2) for j in range(2)),
                       "inside_8")
        wanted_y, wanted_x = (Cat(1, fraction != 0) for fraction in (fraction_y, fraction_x))
        wanted = later(Cat(wanted_y[i] & wanted_x[j] for i in range(2) for j in range(2)),
                       "wanted_8")
        first_bank = later(Cat(odd_x, odd_y) ^ skew, "first_bank")
        fraction_y, fraction_x = (later(value, f"fraction_{name}_8")
                                  for name, value in (("y", fraction_y), ("x", fraction_x)))
        factor = later(factor, "factor_8")
        at = stage()
        out = self.sample.payload
        with m.If(advance):
            m.d.sync += [
                self.sample.valid.eq(valid),
                out.bank.eq(first_bank), out.inside.eq(inside),
                out.displaced.eq(at.tag.displacement.offsets != Offsets.NONE),
                out.fraction_y.eq(fraction_y), out.fraction_x.eq(fraction_x),
                out.factor.eq(factor), out.inner_first.eq(at.inner_first),
                out.first.eq(at.first), out.last.eq(at.last), out.tag.eq(at.tag.tag),
            ]
            for bank in range(FEATURE_BANKS):
                m.d.sync += [
                    out.need[bank].eq((inside & wanted).bit_select(first_bank ^ bank, 1)),
                    out.address[bank].eq(row_address[bank >> 1] + column_addresses[bank & 1]),
                ]
        return m

    def _word(
        self, m: Module, address: Signal, moves: Value, step: int, steps: Any, name: str
    ) -> Signal:
        """Drive `address` with the word of the tap; return its first lane, beside the address.

        A tap has `step` lanes of a word; the words of a lane group lie one after another, for as
        many positions as a pass has, so that the next lane group begins behind the last one read.
        Without `steps` all taps use the first lane.
        """
        position = self.position.payload
        lanes = self._config.lanes
        first = Signal(address.shape(), name=f"{name}_first", reset_less=True)
        lane = Signal(range(lanes), name=f"{name}_lane", reset_less=True)
        behind = Signal(address.shape(), name=f"{name}_behind")
        m.d.comb += behind.eq(address + 1)
        with m.If(moves):
            m.d.sync += address.eq(behind)
            with m.If(position.inner_first):
                with m.If(position.at.outer_first):
                    m.d.sync += [address.eq(0), first.eq(0), lane.eq(0)]
                with m.Elif(steps):
                    m.d.sync += lane.eq(lane + step)
                    with m.If(lane == lanes - step):
                        m.d.sync += first.eq(behind)
                    with m.Else():
                        m.d.sync += address.eq(first)
                with m.Else():
                    m.d.sync += address.eq(first)
        return lane

    @staticmethod
    def _inside(position: Value, size: Value) -> Value:
        return (position >= 0) & (position < size)

