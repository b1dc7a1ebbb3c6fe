"""Moves the taps of a displaced depthwise window by the offsets of its pixel."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from pliant.spec.config import DISPLACED_TAPS, AcceleratorConfig
from pliant.spec.isa import Post
from pliant.spec.sampling import FRACTION_BITS, MAX_SCALED_KERNEL, Offsets
from pliant_hw.layouts import instruction_layout
from pliant_hw.pipeline import loaded
from pliant_hw.products import lut_product

DISPLACER_LATENCY = 4
"""A tap's offsets; clamp; shift; scale."""

LEFT_BITS = MAX_SCALED_KERNEL.bit_length()
"""Of what is left of a SCALED kernel's rows or columns."""

MOVED_BITS = 8 + FRACTION_BITS + (MAX_SCALED_KERNEL // 2).bit_length()
"""Of a displacement in sixteenths of a pixel; signed."""


class PixelOffsets(wiring.Component):
    """Holds the offset words of a pixel, all of them at hand, and those of the next.

    A pixel's words may be used from the cycle on after the last of them came.

    Members
    -------
    words : In(stream)   `groups` words for each pixel, at most ``config.displaced_groups``
    groups : In   words of a pixel
    available : Out   the words of the oldest pixel are there; a cycle behind a change of
        `groups`
    leave : In   that pixel is done, the next is the oldest
    tap : In   which of the word's pairs of lanes, `pair` : Out
    """

    words: Any
    groups: Signal
    available: Signal
    leave: Signal
    tap: Signal
    pair: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "words": In(stream.Signature(unsigned(8 * config.lanes))),
            "groups": In(range(config.displaced_groups + 1)),
            "available": Out(1),
            "leave": In(1),
            "tap": In(range(DISPLACED_TAPS)),
            "pair": Out(16),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, depth = self._config.lanes, 2 * self._config.displaced_groups
        storage: Memory[Any, Any] = Memory(shape=8 * lanes, depth=depth, init=[])
        m.submodules.storage = storage
        write, read = storage.write_port(), storage.read_port(domain="comb")
        oldest = Signal(range(depth))
        level = Signal(range(depth + 1))
        behind = Signal.like(level)
        later = Signal.like(level)
        room = Signal(init=1)
        in_word = exact_log2(lanes // 2)
        m.d.comb += [
            self.words.ready.eq(room),
            write.en.eq(self.words.valid & room),
            write.data.eq(self.words.payload),
            read.addr.eq(oldest + self.tap[in_word:]),
            self.pair.eq(read.data.word_select(self.tap[:in_word], 16)),
            behind.eq(level + write.en),
            later.eq(level - self.groups + write.en),
        ]
        # What is there is compared for either case: `leave` comes late in its cycle.
        m.d.sync += [
            room.eq(self.leave | (behind != depth)),
            write.addr.eq(write.addr + write.en),
            level.eq(Mux(self.leave, later, behind)),
            self.available.eq(Mux(self.leave, behind >= (self.groups << 1), behind >= self.groups)),
        ]
        with m.If(self.leave):
            m.d.sync += oldest.eq(oldest + self.groups)
        return m


class TapDisplacer(wiring.Component):
    """Finds how far taps move, one a cycle, latency DISPLACER_LATENCY (4).

    Implements :func:`pliant.spec.sampling.displacement`; taps of instructions without offsets move
    by 0.

    Parameters
    ----------
    config : AcceleratorConfig
        With `offset_depth`.

    Members
    -------
    offsets : In(stream)   words of offsets, those of a pixel one after another
    instruction : In   decoded Post; holds still while its taps are walked
    available : Out   the pixel's offsets are there; also where the instruction has none
    advance : In   all stages move
    step : In   a tap enters; `last_tap` : In, of its pixel
    left_y, left_x : In   rows and columns of the kernel from the tap on
    moved_y, moved_x : Out   sixteenths of a pixel
    """

    offsets: Any
    instruction: Any
    available: Signal
    advance: Signal
    step: Signal
    last_tap: Signal
    left_y: Signal
    left_x: Signal
    moved_y: Signal
    moved_x: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "offsets": In(stream.Signature(unsigned(8 * config.lanes))),
            "instruction": In(instruction_layout(Post)),
            "available": Out(1),
            "advance": In(1),
            "step": In(1),
            "last_tap": In(1),
            "left_y": In(LEFT_BITS),
            "left_x": In(LEFT_BITS),
            "moved_y": Out(signed(MOVED_BITS)),
            "moved_x": Out(signed(MOVED_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        post = self.instruction
        m.submodules.held = held = PixelOffsets(config=self._config)
        wiring.connect(m, wiring.flipped(self.offsets), held.words)
        displaced, scaled = Signal(), Signal()
        tap = Signal(range(DISPLACED_TAPS))
        m.d.sync += [displaced.eq(post.offsets != Offsets.NONE),
                     scaled.eq(post.offsets == Offsets.SCALED)]
        m.d.comb += [
            held.groups.eq(post.offset_groups),
            held.leave.eq(self.step & self.last_tap & displaced),
            held.tap.eq(tap),
            self.available.eq(held.available | ~displaced),
        ]
        with m.If(self.step):
            m.d.sync += tap.eq(Mux(self.last_tap | scaled, 0, tap + 1))

        # Stage 1: a tap's offsets, and what they are multiplied by.
        pair = Signal(16, reset_less=True)
        anchors = []
        for axis, left, size in (("y", self.left_y, post.kernel_height),
                                 ("x", self.left_x, post.kernel_width)):
            anchor = Signal(signed(LEFT_BITS), name=f"anchor_{axis}", reset_less=True)
            with m.If(self.advance):
                m.d.sync += anchor.eq(Mux(scaled, (size[:LEFT_BITS] + 1)[1:] - left, displaced))
            anchors.append(anchor)
        with m.If(self.advance):
            m.d.sync += pair.eq(Cat(held.pair[:8], Mux(scaled, held.pair[:8], held.pair[8:])))
        minimum, maximum, shift = (
            loaded(m, self.advance, field, name) for field, name in (
                (post.offset_min, "minimum"), (post.offset_max, "maximum"),
                (post.offset_shift, "shift")))

        # Stage 2: clamp; stage 3: shift; stage 4: scale.
        shift = loaded(m, self.advance, shift, "shift_2")
        for axis, offset, anchor, moved in (
                ("y", pair[:8].as_signed(), anchors[0], self.moved_y),
                ("x", pair[8:].as_signed(), anchors[1], self.moved_x)):
            clamped = Signal(signed(8), name=f"clamped_{axis}", reset_less=True)
            shifted = Signal(signed(8 + FRACTION_BITS), name=f"shifted_{axis}", reset_less=True)
            for stage in (2, 3):
                anchor = loaded(m, self.advance, anchor, f"anchor_{axis}_{stage}")
            product = lut_product(m, shifted, anchor, f"product_{axis}")
            with m.If(self.advance):
                m.d.sync += [clamped.eq(_clamped(offset, minimum, maximum)),
                             shifted.eq(clamped << shift), moved.eq(product)]
        return m


def _clamped(value: Value, low: Value, high: Value) -> Value:
    return Mux(value < low, low, Mux(value > high, high, value))
