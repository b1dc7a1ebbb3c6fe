"""Keeps the sampling offsets and masks of a tile near the sampler."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix
from pliant.spec.sampling import Offsets
from pliant_hw.layouts import FEATURE_READ_LATENCY, FeatureReadPort, instruction_layout
from pliant_hw.pipeline import delayed
from pliant_hw.rectangle import RectangleWalker


class OffsetMemory(wiring.Component):
    """Copies a tile's offsets, then its masks, from the feature buffer and holds them.

    A copy takes a cycle for each word and about ten more. Words lie in the order lane group, row,
    column (fastest). Latency of a read: 1.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    instruction : In(stream)   decoded Matrix to copy for; accepted when the copy begins
    busy : Out   a copy is under way; nothing may be read
    feature : Out(FeatureReadPort)
    enable : In, offset_address, mask_address : In   reads one word of each
    offset, mask : Out   lanes x int8, as unsigned words
    """

    instruction: Any
    busy: Signal
    feature: Any
    enable: Signal
    offset_address: Signal
    mask_address: Signal
    offset: Signal
    mask: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Matrix))),
            "busy": Out(1),
            "feature": Out(FeatureReadPort(config)),
            "enable": In(1),
            "offset_address": In(range(config.offset_depth)),
            "mask_address": In(range(config.mask_depth)),
            "offset": Out(8 * config.lanes),
            "mask": Out(8 * config.lanes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        word = unsigned(8 * config.lanes)
        offsets: Memory[Any, Any] = Memory(shape=word, depth=config.offset_depth, init=[])
        masks: Memory[Any, Any] = Memory(shape=word, depth=config.mask_depth, init=[])
        m.submodules.offsets, m.submodules.masks = offsets, masks
        m.submodules.walker = walker = RectangleWalker(config=config)

        current: Any = Signal(instruction_layout(Matrix), reset_less=True)
        modulated = Signal()
        offered = Signal()  # a rectangle of `current` waits for the walker
        of_masks = Signal()  # the one offered
        m.d.comb += [self.instruction.ready.eq(~self.busy),
                     modulated.eq(current.offsets == Offsets.MODULATED)]
        accepted = self.instruction.valid & self.instruction.ready
        with m.If(accepted):
            m.d.sync += [current.eq(self.instruction.payload), self.busy.eq(1), offered.eq(1),
                         of_masks.eq(0)]
        with m.If(offered & walker.rectangle.ready):
            m.d.sync += [offered.eq(modulated & ~of_masks), of_masks.eq(1)]
        rectangle = walker.rectangle.payload
        m.d.comb += [
            walker.rectangle.valid.eq(offered),
            *(rectangle[to].eq(Mux(of_masks, current[f"mask_{part}"], current[f"offset_{part}"]))
              for to, part in (("base", "source"), ("group_stride", "group_stride"),
                               ("row_stride", "row_stride"), ("y", "y"), ("x", "x"),
                               ("groups", "groups"))),
            rectangle.height.eq(current.out_height), rectangle.width.eq(current.out_width),
        ]

        # The walker may be one rectangle ahead of its places.
        place = walker.place.payload
        request = Signal()
        masks_now = Signal()
        with m.If(accepted):
            m.d.sync += masks_now.eq(0)
        with m.Elif(request & place.last):
            m.d.sync += masks_now.eq(1)
        m.d.comb += [
            self.feature.valid.eq(walker.place.valid),
            self.feature.mask.eq(1 << place.bank),
            walker.place.ready.eq(self.feature.ready),
            request.eq(self.feature.valid & self.feature.ready),
        ]
        m.d.comb += [self.feature.address[bank].eq(place.address)
                     for bank in range(FEATURE_BANKS)]
        what: Any = Signal(data.StructLayout({
            "bank": unsigned(2), "of_masks": unsigned(1), "end": unsigned(1),
            "final": unsigned(1)}))
        m.d.comb += [what.bank.eq(place.bank), what.of_masks.eq(masks_now),
                     what.end.eq(place.last),
                     what.final.eq(place.last & (masks_now | ~modulated))]
        arrived = delayed(m, request, FEATURE_READ_LATENCY, "arrived")
        arrived_what: Any = what.shape()(delayed(
            m, what.as_value(), FEATURE_READ_LATENCY, "what", reset_less=True))
        address = Signal(range(config.offset_depth))
        for memory, selected in ((offsets, ~arrived_what.of_masks), (masks, arrived_what.of_masks)):
            port = memory.write_port()
            m.d.comb += [port.addr.eq(address), port.en.eq(arrived & selected),
                         port.data.eq(self.feature.data[arrived_what.bank])]
        with m.If(arrived):
            m.d.sync += address.eq(Mux(arrived_what.end, 0, address + 1))
        with m.If(arrived & arrived_what.final):
            m.d.sync += self.busy.eq(0)

        for memory, value, place in ((offsets, self.offset, self.offset_address),
                                     (masks, self.mask, self.mask_address)):
            read = memory.read_port()
            m.d.comb += [read.en.eq(self.enable), read.addr.eq(place), value.eq(read.data)]
        return m
