"""Reads windows of the feature buffer in patches of up to two by two taps."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant_hw.layouts import (
    FEATURE_READ_LATENCY,
    FeatureReadPort,
    feature_address_bits,
    instruction_layout,
)
from pliant_hw.pipeline import delayed, loaded
from pliant_hw.products import PATCH_TAPS, row_products
from pliant_hw.streams import StreamBuffer, StreamQueue
from pliant_hw.walker import COORDINATE_BITS, SIZE_BITS

REQUESTS = 4
"""Requests of a bank that may wait for room, besides the two in front of it."""

RESPONSES = 8
"""Words of a bank that may wait for those of the other banks; covers a read and its request."""

PATCHES = 16
"""Patches in flight."""


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
    """
    return data.StructLayout({
        "present": unsigned(PATCH_TAPS),
        "inside": unsigned(PATCH_TAPS),
        "odd_y": unsigned(1),
        "odd_x": unsigned(1),
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


def request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a patch with the banks that it needs and an address for each."""
    return data.StructLayout({
        "patch": patch_layout(config),
        "need": unsigned(FEATURE_BANKS),
        "address": data.ArrayLayout(unsigned(feature_address_bits(config)), FEATURE_BANKS),
    })


class PatchWalker(wiring.Component):
    """Cuts the windows of a Post instruction into patches, one a cycle; latency 4.

    Along an axis with odd dilation two taps lie in banks of different parity and go together; with
    even dilation a patch has one (:func:`pliant.spec.memory.patch_taps`). Where
    :func:`pliant.spec.memory.paired` says so, the windows of two outputs side by side are read as
    one, `stride_x` columns wider; an odd last output has its own.

    Members
    -------
    start : In   pulse with a new `instruction`, which then holds still until `finished`
    instruction : In   decoded Post
    finished : Out   pulse: the last patch is on its way
    request : Out(stream)   see request_layout
    """

    instruction: Any
    start: Signal
    finished: Signal
    request: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "start": In(1),
            "instruction": In(instruction_layout(Post)),
            "finished": Out(1),
            "request": Out(stream.Signature(request_layout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, post = self._config, self.instruction
        address_bits = feature_address_bits(config)
        advance = Signal()  # all stages move together
        m.d.comb += advance.eq(~self.request.valid | self.request.ready)

        # Stage 0: counters. Window, output pixel, lane group; what is left of each counts down.
        running = Signal()
        first, previous, starts, starts_group = Signal(), Signal(), Signal(), Signal()
        left_y, left_x = Signal(9), Signal(9)
        rows_left, columns_left, groups_left = Signal(SIZE_BITS), Signal(SIZE_BITS), Signal(12)
        group_base = Signal(address_bits)
        tap, group_tap = Signal(tap_address_bits(config)), Signal(tap_address_bits(config))
        start_y, start_x, y, x = (
            Signal(signed(COORDINATE_BITS), name=name)
            for name in ("start_y", "start_x", "y", "x")
        )
        two_y, two_x = post.dilation_y[0], post.dilation_x[0]
        pairs = Signal()  # the instruction computes outputs in pairs
        pair, next_pair, first_pair = Signal(), Signal(), Signal()
        pair_width = Signal(9)
        last_x = Signal()
        last_tap = Signal()
        last_column, last_row, last_group = Signal(), Signal(), Signal()  # known one step ahead
        one_column = Signal()
        last_pixel = Signal()
        last = Signal()
        own = Signal()
        next_tap = Signal.like(tap)
        m.d.comb += [
            last_x.eq(left_x <= 1 + two_x),
            last_tap.eq(last_x & (left_y <= 1 + two_y)),
            last_pixel.eq(last_column & last_row),
            last.eq(last_tap & last_pixel & last_group),
            self.finished.eq(running & advance & last),
            own.eq(left_x > Mux(pair, post.stride_x[:2], 0)),
            next_tap.eq(tap + own),
            first_pair.eq(pairs & (post.out_width != 1)),
            one_column.eq(post.out_width <= 1 + first_pair),
            # A single output is an odd last one, so a pair is all that others can follow.
            next_pair.eq(Mux(last_column, first_pair, pairs & (columns_left != 3))),
        ]
        with m.If(running & advance):
            m.d.sync += [left_x.eq(left_x - 1 - two_x), tap.eq(next_tap), first.eq(0),
                         previous.eq(1), x.eq(x + (post.dilation_x << two_x))]
            with m.If(last_x):
                m.d.sync += [left_x.eq(Mux(pair, pair_width, post.kernel_width)), x.eq(start_x),
                             previous.eq(0), left_y.eq(left_y - 1 - two_y),
                             y.eq(y + (post.dilation_y << two_y))]
            with m.If(last_tap):
                next_x, next_y = start_x + (post.stride_x << pair), start_y + post.stride_y
                m.d.sync += [left_y.eq(post.kernel_height), tap.eq(group_tap), first.eq(1),
                             starts.eq(0), starts_group.eq(last_pixel),
                             left_x.eq(Mux(next_pair, pair_width, post.kernel_width)),
                             pair.eq(next_pair), columns_left.eq(columns_left - 1 - pair),
                             last_column.eq(columns_left <= Mux(pairs, 4, 2)),
                             start_x.eq(next_x), x.eq(next_x), y.eq(start_y)]
                with m.If(last_column):
                    m.d.sync += [columns_left.eq(post.out_width), last_column.eq(one_column),
                                 start_x.eq(post.origin_x), x.eq(post.origin_x),
                                 rows_left.eq(rows_left - 1), last_row.eq(rows_left == 2),
                                 start_y.eq(next_y), y.eq(next_y)]
                with m.If(last_pixel):
                    m.d.sync += [rows_left.eq(post.out_height), last_row.eq(post.out_height == 1),
                                 start_y.eq(post.origin_y),
                                 y.eq(post.origin_y), tap.eq(next_tap), group_tap.eq(next_tap),
                                 groups_left.eq(groups_left - 1),
                                 last_group.eq(groups_left == 2),
                                 group_base.eq(group_base + post.window_group_stride)]
            with m.If(last):
                m.d.sync += running.eq(0)
        several = (post.kernel_width > 1 + two_x) | (post.kernel_height > 1 + two_y)
        paired = ((post.source == Source.DEPTHWISE) & (post.dilation_x == 1)
                  & (post.stride_x <= 2) & several)
        starting = Signal()
        m.d.sync += [starting.eq(self.start), pairs.eq(paired),
                     pair_width.eq(post.kernel_width + post.stride_x)]
        with m.If(starting):
            m.d.sync += [
                running.eq(1), first.eq(1), previous.eq(0), pair.eq(first_pair),
                starts.eq(1), starts_group.eq(1),
                left_y.eq(post.kernel_height),
                left_x.eq(Mux(first_pair, pair_width, post.kernel_width)),
                rows_left.eq(post.out_height), columns_left.eq(post.out_width),
                groups_left.eq(post.groups), group_base.eq(post.window),
                last_column.eq(one_column), last_row.eq(post.out_height == 1),
                last_group.eq(post.groups == 1),
                tap.eq(post.taps), group_tap.eq(post.taps), start_y.eq(post.origin_y),
                start_x.eq(post.origin_x), y.eq(post.origin_y), x.eq(post.origin_x),
            ]

        # Stage 1: coordinates of both rows and columns; stage 2: bounds and products.
        valid = Signal(2)
        rows = [Signal(signed(COORDINATE_BITS), name=f"row_{index}") for index in range(2)]
        columns = [Signal(signed(COORDINATE_BITS), name=f"column_{index}") for index in range(2)]
        present_y, present_x = Signal(), Signal()
        base = Signal(address_bits)
        early: Any = Signal(patch_layout(config))
        patch: Any = Signal(patch_layout(config))
        row_offsets = [Signal(data.ArrayLayout(address_bits, 2), name=f"row_offset_{index}")
                       for index in range(2)]
        column_offsets = [Signal(address_bits, name=f"column_offset_{index}")
                          for index in range(2)]
        # The instruction may be another one by the time of stage 2.
        height, width, row_stride = (
            loaded(m, advance, field, name) for field, name in (
                (post.height, "height"), (post.width, "width"),
                (post.window_row_stride, "row_stride")))
        products = [
            row_products(m, row[1:SIZE_BITS], row_stride, f"row_product_{index}", address_bits)
            for index, row in enumerate(rows)
        ]
        inside_y = [(row >= 0) & (row < height) for row in rows]
        inside_x = [(column >= 0) & (column < width) for column in columns]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(running, valid[0])),
                rows[0].eq(y), rows[1].eq(y + post.dilation_y),
                columns[0].eq(x), columns[1].eq(x + post.dilation_x),
                present_y.eq(two_y & (left_y > 1)),
                present_x.eq(two_x & (left_x > 1)),
                base.eq(group_base),
                early.odd_y.eq(y[0] ^ group_base[1]), early.odd_x.eq(x[0] ^ group_base[0]),
                early.first.eq(first), early.last.eq(last_tap),
                early.pair.eq(pair), early.own.eq(own), early.previous.eq(previous),
                early.starts.eq(starts), early.starts_group.eq(starts_group),
                early.final.eq(last), early.tap.eq(tap),
                patch.eq(early),
                patch.present.eq(Cat(1, present_x, present_y, present_y & present_x)),
                patch.inside.eq(Cat(inside_y[i] & inside_x[j]
                                    for i in range(2) for j in range(2))),
            ]
            for index in range(2):
                m.d.sync += [
                    *(row_offsets[index][part].eq(products[index][part]) for part in range(2)),
                    column_offsets[index].eq(base + columns[index][1:SIZE_BITS]),
                ]

            # Stage 3: to the banks.
            request = self.request.payload
            m.d.sync += [self.request.valid.eq(valid[1]), request.patch.eq(patch)]
            for bank in range(FEATURE_BANKS):
                second_row = patch.odd_y ^ (bank >> 1)
                second_column = patch.odd_x ^ (bank & 1)
                wanted = patch.present & patch.inside
                m.d.sync += [
                    request.need[bank].eq(wanted.bit_select(Cat(second_column, second_row), 1)),
                    request.address[bank].eq(
                        Mux(second_row, row_offsets[1][0], row_offsets[0][0])
                        + Mux(second_row, row_offsets[1][1], row_offsets[0][1])
                        + Mux(second_column, column_offsets[1], column_offsets[0])),
                ]
        return m


class PatchReader(wiring.Component):
    """Fetches the words of patches, up to one patch a cycle.

    Each bank is asked on its own, so that a patch need not wait until all its banks are free in the
    same cycle; the words are joined again here.

    Members
    -------
    request : In(stream)   see request_layout
    feature_<bank> : Out(FeatureReadPort)   asks for this bank alone
    patch : Out(stream)   {patch, words}: see patch_layout; word t is that of tap t, undefined
        unless the tap is present and inside
    wait_bank : Out   a bank is asked for and not free
    """

    request: Any
    patch: Any
    wait_bank: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word = unsigned(8 * config.lanes)
        super().__init__({
            "request": In(stream.Signature(request_layout(config))),
            **{f"feature_{bank}": Out(FeatureReadPort(config)) for bank in range(FEATURE_BANKS)},
            "patch": Out(stream.Signature(data.StructLayout({
                "patch": patch_layout(config),
                "words": data.ArrayLayout(word, PATCH_TAPS),
            }))),
            "wait_bank": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        request = self.request.payload
        meta = data.StructLayout({"patch": patch_layout(config), "need": unsigned(FEATURE_BANKS)})
        m.submodules.pending = pending = StreamQueue(meta, depth=PATCHES)
        m.submodules.next = following = StreamBuffer(meta)
        wiring.connect(m, pending.output, following.input)
        room = Signal(FEATURE_BANKS + 1)
        ready = Signal()
        accept, take = Signal(), Signal()
        complete = Signal(FEATURE_BANKS)
        waiting = Signal(FEATURE_BANKS)
        oldest = following.output.payload
        words = [
            self._bank(m, bank, accept & request.need[bank], room, take, oldest.need[bank],
                       complete, waiting)
            for bank in range(FEATURE_BANKS)
        ]
        m.d.comb += [
            room[FEATURE_BANKS].eq(pending.level < PATCHES - 1),
            self.request.ready.eq(ready),
            accept.eq(self.request.valid & self.request.ready),
            pending.input.valid.eq(accept),
            pending.input.payload.patch.eq(request.patch),
            pending.input.payload.need.eq(request.need),
            self.patch.valid.eq(following.output.valid & complete.all()),
            take.eq(self.patch.valid & self.patch.ready),
            following.output.ready.eq(take),
            self.patch.payload.patch.eq(oldest.patch),
            self.wait_bank.eq(waiting.any()),
        ]
        m.d.sync += ready.eq(room.all())
        by_parity = data.View(data.ArrayLayout(len(words[0]), FEATURE_BANKS), Cat(words))
        for tap in range(PATCH_TAPS):
            bank = Cat(oldest.patch.odd_x ^ (tap & 1), oldest.patch.odd_y ^ (tap >> 1))
            m.d.comb += self.patch.payload.words[tap].eq(by_parity[bank])
        return m

    def _bank(
        self, m: Module, bank: int, ask: Value, room: Signal, take: Signal, needed: Value,
        complete: Signal, waiting: Signal,
    ) -> Value:
        """Connect one bank; return its oldest word. `room` leaves one for a request made now."""
        config = self._config
        port = getattr(self, f"feature_{bank}")
        asked = StreamQueue(unsigned(feature_address_bits(config)), depth=REQUESTS)
        words = StreamQueue(unsigned(8 * config.lanes), depth=RESPONSES)
        # Reserves its room before the arbitration, which ends in registers.
        asking = StreamBuffer(unsigned(feature_address_bits(config)))
        m.submodules[f"asked_{bank}"] = asked
        m.submodules[f"asking_{bank}"] = asking
        m.submodules[f"words_{bank}"] = words
        reserved = Signal(range(RESPONSES + 1), name=f"reserved_{bank}")
        free = Signal(name=f"free_{bank}")
        reserve = Signal(name=f"reserve_{bank}")
        sent = Signal(name=f"sent_{bank}")
        used = Signal(name=f"used_{bank}")
        m.d.comb += [
            asked.input.valid.eq(ask),
            asked.input.payload.eq(self.request.payload.address[bank]),
            room[bank].eq(asked.level < REQUESTS - 1),
            free.eq(reserved != RESPONSES),
            asking.input.valid.eq(asked.output.valid & free),
            asking.input.payload.eq(asked.output.payload),
            asked.output.ready.eq(asking.input.ready & free),
            reserve.eq(asking.input.valid & asking.input.ready),
            port.valid.eq(asking.output.valid),
            asking.output.ready.eq(port.ready),
            port.mask.eq(1 << bank),
            sent.eq(port.valid & port.ready),
            waiting[bank].eq(port.valid & ~port.ready),
            words.input.valid.eq(delayed(m, sent, FEATURE_READ_LATENCY, f"arrived_{bank}")),
            words.input.payload.eq(port.data[bank]),
            complete[bank].eq(words.output.valid | ~needed),
            used.eq(take & needed),
            words.output.ready.eq(used),
        ]
        m.d.comb += [port.address[other].eq(asking.output.payload)
                     for other in range(FEATURE_BANKS)]
        freed = Signal(name=f"freed_{bank}")  # a cycle late: `used` comes late in its own
        m.d.sync += [freed.eq(used), reserved.eq(reserved + reserve - freed)]
        word: Value = words.output.payload
        return word
