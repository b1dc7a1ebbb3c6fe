"""The store unit: writes regions of the feature buffer to memory."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Store, Target
from pliant.spec.registers import SEGMENTS, Fault, FaultUnit
from pliant_hw.axi import AxiWriteSignature
from pliant_hw.dma import WINDOW_BITS, DmaWriter, beat_layout
from pliant_hw.layouts import (
    FEATURE_READ_LATENCY,
    INDEX_BITS,
    FaultReport,
    FeatureReadPort,
    feature_address_bits,
    instruction_layout,
)
from pliant_hw.pipeline import delayed
from pliant_hw.streams import StreamBuffer, StreamQueue
from pliant_hw.transfer import MEMORY_SIDE, REGION, RegionWalker, RunWalker, bank_mask

QUEUED_REGIONS = 2
DATA_BEATS = 16
"""Beats between the feature buffer and the write channel: covers the read latency and stalls."""


class StoreUnit(wiring.Component):
    """Reads the next instruction's region while the last one's bursts wait for acknowledgement.

    One beat a cycle. If the last beat of the region is not the last of the runs, or an address
    passes the buffer's end, the unit stops with ILLEGAL_INSTRUCTION.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    instruction : In(stream)   Store
    done : Out(1)   pulse: memory has acknowledged all of the oldest instruction
    segment_base : In(array of SEGMENTS addresses)
    window_base, window_limit : In(64)   bytes
    axi : Out(AxiWriteSignature)
    feature : Out(FeatureReadPort)
    halt : In(1)   issue nothing new, finish offered bursts without writing
    idle : Out(1)   nothing outstanding on the bus
    fault : Out(FaultReport)   stays until reset
    busy, wait_memory, wait_bank : Out(1)   for the performance counters
    """

    instruction: Any
    done: Signal
    segment_base: Any
    window_base: Signal
    window_limit: Signal
    axi: Any
    feature: Any
    halt: Signal
    idle: Signal
    fault: Any
    busy: Signal
    wait_memory: Signal
    wait_bank: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        address = unsigned(config.axi_address_bits)
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Store))),
            "done": Out(1),
            "segment_base": In(data.ArrayLayout(address, SEGMENTS)),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "axi": Out(AxiWriteSignature(config)),
            "feature": Out(FeatureReadPort(config)),
            "halt": In(1),
            "idle": Out(1),
            "fault": Out(FaultReport(config)),
            "busy": Out(1),
            "wait_memory": Out(1),
            "wait_bank": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.runs = runs = RunWalker(config=config)
        m.submodules.writer = writer = DmaWriter(config=config, unit=FaultUnit.STORE)
        m.submodules.regions = regions = StreamQueue(REGION, depth=QUEUED_REGIONS)
        m.submodules.walker = walker = RegionWalker(
            config=config, address_bits={Target.FEATURE: feature_address_bits(config)})
        m.submodules.beats = beats = StreamQueue(beat_layout(config), depth=DATA_BEATS)
        wiring.connect(m, runs.runs, writer.runs)
        wiring.connect(m, writer.axi, wiring.flipped(self.axi))
        wiring.connect(m, regions.output, walker.region)
        wiring.connect(m, beats.output, writer.beats)
        m.d.comb += [
            writer.window_base.eq(self.window_base),
            writer.window_limit.eq(self.window_limit),
            writer.halt.eq(self.halt),
            runs.segment_base.eq(self.segment_base),
            self.idle.eq(writer.idle),
            self.done.eq(writer.completed),
        ]

        instruction = self.instruction.payload
        transfer, region = runs.transfer, regions.input
        m.d.comb += [
            self.instruction.ready.eq(transfer.ready & region.ready),
            transfer.valid.eq(self.instruction.valid & region.ready),
            region.valid.eq(self.instruction.valid & transfer.ready),
            *(transfer.payload[name].eq(instruction[name]) for name in MEMORY_SIDE.members),
            region.payload.start.eq(instruction.source),
            region.payload.target.eq(Target.FEATURE),
            *(region.payload[name].eq(instruction[name]) for name in (
                "row_beats", "rows", "groups", "row_stride", "group_stride", "index",
            )),
        ]
        self._gather(m, walker, beats, writer)

        walking = regions.output.valid | walker.beats.valid | self.feature.valid
        m.d.comb += [
            self.busy.eq(runs.busy | walking | beats.output.valid | ~writer.idle),
            self.wait_bank.eq(self.feature.valid & ~self.feature.ready),
            self.wait_memory.eq(self.busy & ~self.feature.valid),
        ]
        return m

    def _gather(
        self, m: Module, walker: RegionWalker, beats: StreamQueue, writer: DmaWriter
    ) -> None:
        """Read the region into `beats`; a read starts only when its beat has a place there.

        The two words of a beat may be read in different cycles: while another client takes one
        bank after the other, both are never free at once.
        """
        config = self._config
        region = walker.beats.payload
        # A request reserves its room before the arbitration, which ends in registers.
        m.submodules.requests = requests = StreamBuffer(data.StructLayout({
            "address": feature_address_bits(config), "bank": 2, "last": 1,
        }))
        place = requests.output.payload
        reserved = Signal(range(DATA_BEATS + 1))
        room = reserved != DATA_BEATS
        bad = Signal()
        bad_index = Signal(INDEX_BITS)
        permitted, reserve, accepted, taken = Signal(), Signal(), Signal(), Signal()
        early = Signal(FEATURE_BANKS)  # banks of this beat that have been read
        m.d.comb += [
            permitted.eq(room & ~region.outside & ~bad),
            requests.input.valid.eq(walker.beats.valid & permitted),
            requests.input.payload.address.eq(region.address),
            *(requests.input.payload[name].eq(region[name]) for name in ("bank", "last")),
            walker.beats.ready.eq(requests.input.ready & permitted),
            reserve.eq(requests.input.valid & requests.input.ready),
            self.feature.valid.eq(requests.output.valid),
            self.feature.mask.eq(bank_mask(config, place.bank) & ~early),
            *(self.feature.address[bank].eq(place.address) for bank in range(FEATURE_BANKS)),
            accepted.eq(self.feature.valid & self.feature.ready),
            requests.output.ready.eq(self.feature.ready),
            taken.eq(beats.output.valid & beats.output.ready),
        ]
        m.d.sync += reserved.eq(reserved + reserve - taken)
        with m.If(self.feature.valid):
            m.d.sync += early.eq(Mux(self.feature.ready, 0, early | self.feature.granted))
        with m.If(walker.beats.valid & region.outside & ~bad):
            m.d.sync += [bad.eq(1), bad_index.eq(region.index)]

        # What belongs to the read whose words arrive FEATURE_READ_LATENCY cycles later.
        granted = self.feature.granted
        what: Any = Signal(data.StructLayout(
            {"bank": 2, "last": 1, "was_early": 2, "is_early": 2}))
        m.d.comb += [
            what.bank.eq(place.bank), what.last.eq(place.last),
            what.was_early.eq(early[:2] | early[2:]),
            what.is_early.eq(Mux(
                self.feature.valid & ~self.feature.ready, granted[:2] | granted[2:], 0)),
        ]
        arrived = delayed(m, accepted, FEATURE_READ_LATENCY, "arrived")
        now: Any = what.shape()(delayed(m, what.as_value(), FEATURE_READ_LATENCY, "what"))
        words = []
        for index in range(config.words_per_beat):
            bank = now.bank ^ index
            word = self.feature.data[bank]
            if config.words_per_beat > 1:
                kept = Signal(8 * config.lanes, name=f"kept_{index}", reset_less=True)
                with m.If(now.is_early.bit_select(bank[0], 1)):
                    m.d.sync += kept.eq(word)
                word = Mux(now.was_early.bit_select(bank[0], 1), kept, word)
            words.append(word)
        m.d.comb += [
            beats.input.valid.eq(arrived),
            beats.input.payload.data.eq(Cat(words)),
            beats.input.payload.last.eq(now.last),
        ]

        m.d.comb += self.fault.unit.eq(FaultUnit.STORE)
        with m.If(writer.fault.valid):
            m.d.comb += [
                self.fault.valid.eq(1), self.fault.code.eq(writer.fault.code),
                self.fault.index.eq(writer.fault.index),
                self.fault.address.eq(writer.fault.address),
            ]
        with m.Else():
            m.d.comb += [
                self.fault.valid.eq(bad), self.fault.code.eq(Fault.ILLEGAL_INSTRUCTION),
                self.fault.index.eq(bad_index),
            ]
