"""The residual path of the post-processor: words fetched ahead, then added."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post
from pliant.spec.numerics import Rounding
from pliant.spec.sampling import Offsets
from pliant_hw.layouts import (
    FEATURE_READ_LATENCY,
    FeatureReadPort,
    feature_address_bits,
    instruction_layout,
)
from pliant_hw.pipeline import clip, delayed, loaded, stages
from pliant_hw.products import lut_product
from pliant_hw.rectangle import RectangleWalker, connect_rectangle
from pliant_hw.rounding import ROUNDING_LATENCY, RoundingShifter
from pliant_hw.streams import StreamBuffer

ADDER_LATENCY = 2 + ROUNDING_LATENCY + 1
"""Products; their sum; shift; clip."""

RESIDUAL_WORDS = 32
"""Residual words fetched ahead; more than the cycles from the request of one to its use (19)."""


class ResidualReader(wiring.Component):
    """Fetches residual words, and the offsets of displaced taps, ahead of their use.

    Both go through one queue in the order of the instructions. An instruction's offsets have all
    been taken before a value of a later one is issued, so that a word used is a residual one.

    Members
    -------
    instruction : In(stream)   decoded Post with `add_enable` or `offsets`
    feature : Out(FeatureReadPort)
    offsets : Out(stream)   words of offsets, all of a pixel one after another; only if the
        configuration displaces taps
    available : Out   residual words that nobody has claimed are there: bit 0, one; bit 1, two
    claim : In   a value that will use one is issued
    take : In   the oldest word is used now, `word` : Out
    """

    instruction: Any
    feature: Any
    offsets: Any
    available: Signal
    claim: Signal
    take: Signal
    word: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        self._displaces = config.displaced_groups > 0
        offsets = {"offsets": Out(stream.Signature(unsigned(8 * config.lanes)))}
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Post))),
            "feature": Out(FeatureReadPort(config)),
            **(offsets if self._displaces else {}),
            "available": Out(2),
            "claim": In(1),
            "take": In(1),
            "word": Out(8 * config.lanes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        instruction = self.instruction.payload
        m.submodules.walker = walker = RectangleWalker(config=self._config)
        m.d.comb += [self.instruction.ready.eq(walker.rectangle.ready),
                     walker.rectangle.valid.eq(self.instruction.valid)]
        word_bits = 8 * self._config.lanes
        m.submodules.words = words = SyncFIFOBuffered(
            width=word_bits + self._displaces, depth=RESIDUAL_WORDS)
        displaced = Signal()
        connect_rectangle(m, walker, instruction, "residual", by_pixel=displaced, groups=Mux(
            displaced, instruction.offset_groups, instruction.groups))
        position = walker.place
        # A request reserves its room before the arbitration, which ends in registers.
        request_layout = data.StructLayout(
            {"bank": 2, "address": feature_address_bits(self._config), "is_offset": 1})
        m.submodules.requests = requests = StreamBuffer(request_layout)
        asked = requests.output.payload
        reserved = Signal(range(RESIDUAL_WORDS + 1))
        room = Signal()
        reserve = Signal()
        unclaimed = Signal(range(RESIDUAL_WORDS + 1))  # less one if `claimed`
        claimed = Signal()
        following = Signal.like(unclaimed)
        at_least = Signal(3)  # one, two, three are unclaimed: compared a cycle ahead
        request = Signal()
        taken = Signal()
        m.d.comb += [
            room.eq(reserved != RESIDUAL_WORDS),
            requests.input.valid.eq(position.valid & room),
            requests.input.payload.bank.eq(position.payload.bank),
            requests.input.payload.address.eq(position.payload.address),
            requests.input.payload.is_offset.eq(position.payload.by_pixel),
            position.ready.eq(requests.input.ready & room),
            reserve.eq(requests.input.valid & requests.input.ready),
            self.feature.valid.eq(requests.output.valid),
            self.feature.mask.eq(1 << asked.bank),
            requests.output.ready.eq(self.feature.ready),
            request.eq(self.feature.valid & self.feature.ready),
            self.available.eq(at_least[1:] | (at_least[:2] & ~claimed.replicate(2))),
            taken.eq(self.take),
            words.r_en.eq(taken),
            self.word.eq(words.r_data),
        ]
        m.d.comb += [self.feature.address[bank].eq(asked.address)
                     for bank in range(FEATURE_BANKS)]
        arrived = delayed(m, request, FEATURE_READ_LATENCY, "arrived")
        bank = delayed(m, asked.bank, FEATURE_READ_LATENCY, "bank")
        is_offset = delayed(m, asked.is_offset, FEATURE_READ_LATENCY, "is_offset")
        m.d.comb += [following.eq(unclaimed + (arrived & ~is_offset) - claimed),
                     words.w_en.eq(arrived),
                     words.w_data.eq(Cat(self.feature.data[bank], is_offset))]
        m.d.sync += [
            reserved.eq(reserved + reserve - taken),
            claimed.eq(self.claim),
            unclaimed.eq(following),
            at_least.eq(Cat(following > count for count in range(len(at_least)))),
        ]
        if self._displaces:
            m.d.comb += [
                displaced.eq(instruction.offsets != Offsets.NONE),
                self.offsets.valid.eq(words.r_rdy & words.r_data[-1]),
                self.offsets.payload.eq(words.r_data),
                taken.eq(self.take | (self.offsets.valid & self.offsets.ready)),
            ]
        return m


class ResidualAdder(wiring.Component):
    """Adds a residual word to a requantized one, one word a cycle, latency ADDER_LATENCY (5).

    Implements :func:`pliant.spec.numerics.add`. With `enable` low a word passes unchanged, with the
    same latency.

    Members
    -------
    valid : In, words, residuals : In   lanes x int8
    enable, multiplier, residual_multiplier, offset, shift, rounding, zero_point, clip_min,
    clip_max : In   controls
    load : In   the controls are for words from the next cycle on; they hold until `loaded`
    loaded : Out   `load`, one cycle before the word after it comes out
    take : Out   the word in `residuals` is used
    out_valid : Out, results : Out   lanes x int8
    """

    words: Any
    residuals: Any
    results: Any
    valid: Signal
    enable: Signal
    multiplier: Signal
    residual_multiplier: Signal
    offset: Signal
    shift: Signal
    rounding: Signal
    zero_point: Signal
    clip_min: Signal
    clip_max: Signal
    load: Signal
    loaded: Signal
    take: Signal
    out_valid: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word = data.ArrayLayout(signed(8), config.lanes)
        super().__init__({
            "valid": In(1),
            "words": In(word),
            "residuals": In(word),
            "enable": In(1),
            "multiplier": In(signed(9)),
            "residual_multiplier": In(signed(9)),
            "offset": In(signed(20)),
            "shift": In(5),
            "rounding": In(Rounding),
            "zero_point": In(signed(8)),
            "clip_min": In(signed(8)),
            "clip_max": In(signed(8)),
            "load": In(1),
            "loaded": Out(1),
            "take": Out(1),
            "out_valid": Out(1),
            "results": Out(word),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        load = stages(m, self.load, ADDER_LATENCY, "load")

        def control(value: Signal, stage: int) -> Signal:
            return loaded(m, load[stage], value, f"{value.name}_{stage}")

        take = Signal()
        m.d.comb += [take.eq(self.valid & control(self.enable, 0)), self.take.eq(take)]
        m.d.comb += [self.out_valid.eq(stages(m, self.valid, ADDER_LATENCY)[-1]),
                     self.loaded.eq(load[-1])]
        adding = stages(m, take, ADDER_LATENCY, "adding")
        multiplier = control(self.multiplier, 0)
        residual_multiplier = control(self.residual_multiplier, 0)
        offset = control(self.offset, 1)
        shift, rounding = control(self.shift, 2), control(self.rounding, 2)
        zero_point, clip_min, clip_max = (
            control(value, 4) for value in (self.zero_point, self.clip_min, self.clip_max))
        for index in range(self._config.lanes):
            m.submodules[f"shifter_{index}"] = shifter = RoundingShifter(width=21, shift_bits=5)
            products = [Signal(signed(17), name=f"product_{index}_{side}", reset_less=True)
                        for side in range(2)]
            total = Signal(signed(21), name=f"total_{index}", reset_less=True)
            summed = Signal(signed(8), name=f"sum_{index}", reset_less=True)
            multiples = [
                lut_product(m, word, factor, f"multiple_{index}_{side}")
                for side, (word, factor) in enumerate((
                    (self.words[index], multiplier),
                    (self.residuals[index], residual_multiplier)))
            ]
            with m.If(adding[0]):
                m.d.sync += [products[side].eq(multiples[side]) for side in range(2)]
            with m.If(adding[1]):
                m.d.sync += total.eq(products[0] + products[1] + offset)
            m.d.comb += [shifter.value.eq(total), shifter.shift.eq(shift),
                         shifter.rounding.eq(rounding), shifter.enable.eq(Cat(adding[2:4]))]
            with m.If(adding[4]):
                clip(m, shifter.result + zero_point, clip_min, clip_max, summed)
            unchanged = delayed(m, self.words[index], ADDER_LATENCY, f"word_{index}",
                                reset_less=True)
            m.d.comb += self.results[index].eq(Mux(adding[-1], summed, unchanged))
        return m
