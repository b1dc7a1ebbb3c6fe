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
from pliant_hw.patch_locator import (
    PLACING,
    PatchLocator,
    patch_layout,
    position_layout,
    request_layout,
    tap_address_bits,
)
from pliant_hw.pipeline import delayed, loaded
from pliant_hw.products import PATCH_TAPS
from pliant_hw.streams import StreamBuffer, StreamQueue
from pliant_hw.tap_displacer import DISPLACER_LATENCY, LEFT_BITS, TapDisplacer
from pliant_hw.walker import COORDINATE_BITS, SIZE_BITS

REQUESTS = 4
"""Requests of a bank that may wait for room, besides the two in front of it."""

RESPONSES = 8
"""Words of a bank that may wait for those of the other banks; covers a read and its request."""

PATCHES = 16
"""Patches in flight."""


class PatchWalker(wiring.Component):
    """Cuts the windows of a Post instruction into patches, one a cycle; latency 5.

    Along an axis with odd dilation two taps lie in banks of different parity and go together; with
    even dilation a patch has one (:func:`pliant.spec.memory.patch_taps`). Where
    :func:`pliant.spec.memory.paired` says so, the windows of two outputs side by side are read as
    one, `stride_x` columns wider; an odd last output has its own.

    Where taps are displaced, each is a patch of all lane groups, of which there is one round. A
    configuration that displaces taps adds DISPLACER_LATENCY.

    Members
    -------
    start : In   pulse with a new `instruction`, which then holds still until `finished`
    instruction : In   decoded Post
    finished : Out   pulse: the last patch is on its way
    offsets : In(stream)   see TapDisplacer; only if the configuration displaces taps
    request : Out(stream)   see request_layout
    """

    instruction: Any
    start: Signal
    finished: Signal
    offsets: Any
    request: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        self._displaces = config.displaced_groups > 0
        offsets = {"offsets": In(stream.Signature(unsigned(8 * config.lanes)))}
        super().__init__({
            "start": In(1),
            "instruction": In(instruction_layout(Post)),
            "finished": Out(1),
            **(offsets if self._displaces else {}),
            "request": Out(stream.Signature(request_layout(config))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, post = self._config, self.instruction
        address_bits = feature_address_bits(config)
        m.submodules.locator = locator = PatchLocator(config=config)
        wiring.connect(m, locator.request, wiring.flipped(self.request))
        advance = Signal()  # all stages move together
        m.d.comb += advance.eq(locator.position.ready)

        # Counters. Window, output pixel, lane group; what is left of each counts down.
        running = Signal()
        there, step = Signal(), Signal()
        first, previous, starts, starts_group = Signal(), Signal(), Signal(), Signal()
        left_y, left_x = Signal(9), Signal(9)
        rows_left, columns_left, groups_left = Signal(SIZE_BITS), Signal(SIZE_BITS), Signal(12)
        group_base = Signal(address_bits)
        tap, group_tap = Signal(tap_address_bits(config)), Signal(tap_address_bits(config))
        start_y, start_x, y, x = (
            Signal(signed(COORDINATE_BITS), name=name)
            for name in ("start_y", "start_x", "y", "x")
        )
        displaced = Signal()
        two_y, two_x = Signal(), Signal()  # two taps go together
        pairs = Signal()  # the instruction computes outputs in pairs
        pair, next_pair, first_pair = Signal(), Signal(), Signal()
        pair_width, width, next_width = Signal(9), Signal(9), Signal(9)
        last_x = Signal()
        last_tap = Signal()
        last_column, last_row, last_group = Signal(), Signal(), Signal()  # known one step ahead
        one_column = Signal()
        last_pixel = Signal()
        last = Signal()
        own = Signal()
        next_tap = Signal.like(tap)
        m.d.comb += [
            step.eq(there & advance),
            last_x.eq(left_x <= 1 + two_x),
            last_tap.eq(last_x & (left_y <= 1 + two_y)),
            last_pixel.eq(last_column & last_row),
            last.eq(last_tap & last_pixel & last_group),
            self.finished.eq(step & last),
            own.eq(left_x > Mux(pair, post.stride_x[:2], 0)),
            next_tap.eq(tap + own),
            first_pair.eq(pairs & (post.out_width != 1)),
            one_column.eq(post.out_width <= 1 + first_pair),
        ]
        # A single output is an odd last one, so a pair is all that others can follow. Windows with
        # pairs take several patches: it is known before the last.
        following_pair = Mux(last_column, first_pair, pairs & (columns_left != 3))
        m.d.sync += [next_pair.eq(following_pair),
                     next_width.eq(Mux(following_pair, pair_width, post.kernel_width))]
        with m.If(step):
            m.d.sync += [left_x.eq(left_x - 1 - two_x), tap.eq(next_tap), first.eq(0),
                         previous.eq(~displaced), x.eq(x + (post.dilation_x << two_x))]
            with m.If(last_x):
                m.d.sync += [left_x.eq(width), x.eq(start_x),
                             previous.eq(0), left_y.eq(left_y - 1 - two_y),
                             y.eq(y + (post.dilation_y << two_y))]
            with m.If(last_tap):
                next_x, next_y = start_x + (post.stride_x << pair), start_y + post.stride_y
                m.d.sync += [left_y.eq(post.kernel_height), tap.eq(group_tap), first.eq(1),
                             starts.eq(0), starts_group.eq(last_pixel),
                             left_x.eq(next_width), width.eq(next_width), pair.eq(next_pair),
                             columns_left.eq(columns_left - 1 - pair),
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
        several = ((post.kernel_width > 1 + post.dilation_x[0])
                   | (post.kernel_height > 1 + post.dilation_y[0]))
        plain = ~post.offsets.any() if self._displaces else 1
        paired = ((post.source == Source.DEPTHWISE) & (post.dilation_x == 1)
                  & (post.stride_x <= 2) & several & plain)
        starting = Signal()
        m.d.sync += [starting.eq(self.start), pairs.eq(paired),
                     pair_width.eq(post.kernel_width + post.stride_x),
                     two_y.eq(post.dilation_y[0] & plain), two_x.eq(post.dilation_x[0] & plain)]
        with m.If(starting):
            m.d.sync += [
                running.eq(1), first.eq(1), previous.eq(0), pair.eq(first_pair),
                starts.eq(1), starts_group.eq(1),
                left_y.eq(post.kernel_height),
                *(size.eq(Mux(first_pair, pair_width, post.kernel_width))
                  for size in (left_x, width)),
                rows_left.eq(post.out_height), columns_left.eq(post.out_width),
                groups_left.eq(post.groups), group_base.eq(post.window),
                last_column.eq(one_column), last_row.eq(post.out_height == 1),
                last_group.eq((post.groups == 1) | displaced),
                tap.eq(post.taps), group_tap.eq(post.taps), start_y.eq(post.origin_y),
                start_x.eq(post.origin_x), y.eq(post.origin_y), x.eq(post.origin_x),
            ]

        position: Any = Signal(position_layout(config))
        patch = position.patch
        below, beside = two_y & (left_y > 1), two_x & (left_x > 1)
        m.d.comb += [
            position.y.eq(y), position.x.eq(x), position.base.eq(group_base),
            *(position[name].eq(post[name]) for name in PLACING),
            patch.displaced.eq(displaced),
            patch.present.eq(Mux(
                displaced, Cat(post.groups > group for group in range(PATCH_TAPS)),
                Cat(1, beside, below, below & beside))),
            patch.first.eq(first), patch.last.eq(last_tap),
            patch.pair.eq(pair), patch.own.eq(own), patch.previous.eq(previous),
            patch.starts.eq(starts), patch.starts_group.eq(starts_group),
            patch.final.eq(last), patch.tap.eq(tap),
        ]
        if not self._displaces:
            m.d.comb += [there.eq(running), locator.position.valid.eq(there),
                         locator.position.payload.eq(position)]
            return m

        # Patches go on with their taps' displacements; their instruction may be another one then.
        m.submodules.displacer = displacer = TapDisplacer(config=config)
        wiring.connect(m, wiring.flipped(self.offsets), displacer.offsets)
        m.d.sync += displaced.eq(~plain)
        m.d.comb += [
            there.eq(running & displacer.available),
            displacer.instruction.eq(post), displacer.advance.eq(advance),
            displacer.step.eq(step), displacer.last_tap.eq(last_tap),
            displacer.left_y.eq(left_y[:LEFT_BITS]), displacer.left_x.eq(left_x[:LEFT_BITS]),
        ]
        coming = Signal(DISPLACER_LATENCY)
        with m.If(advance):
            m.d.sync += coming.eq(Cat(there, coming))
        for stage in range(DISPLACER_LATENCY):
            position = loaded(m, advance, position, f"position_{stage}")
        m.d.comb += [
            locator.position.valid.eq(coming[-1]),
            locator.position.payload.eq(position),
            locator.position.payload.moved_y.eq(displacer.moved_y),
            locator.position.payload.moved_x.eq(displacer.moved_x),
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
    patch : Out(stream)   {patch, words}: see patch_layout; word t is that of tap t, of a displaced
        patch of lane group t, undefined unless it is present and inside
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
            row = (tap >> 1) ^ oldest.patch.crossed if tap & 1 else tap >> 1
            bank = Cat(oldest.patch.odd_x ^ (tap & 1), oldest.patch.odd_y ^ row)
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
