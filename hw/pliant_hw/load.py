"""The load unit: reads memory into the feature, weight, parameter and table buffers."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Load, Target
from pliant.spec.memory import TABLE_BYTES
from pliant.spec.registers import SEGMENTS, Fault, FaultUnit
from pliant_hw.axi import LOAD_ID, AxiReadSignature
from pliant_hw.dma import WINDOW_BITS, DmaReader
from pliant_hw.layouts import (
    INDEX_BITS,
    BeatWritePort,
    FaultReport,
    FeatureWritePort,
    feature_address_bits,
    instruction_layout,
)
from pliant_hw.products import PATCH_TAPS
from pliant_hw.streams import StreamBuffer, StreamQueue
from pliant_hw.transfer import (
    MEMORY_SIDE,
    REGION,
    REGION_ADDRESS_BITS,
    RegionWalker,
    RunWalker,
    bank_mask,
)

QUEUED_REGIONS = 4
"""Instructions whose data may be requested while an earlier one is being placed."""


def weight_beat_bits(config: AcceleratorConfig) -> int:
    """Return the address width of the weight buffer in beats."""
    return (config.weight_bytes // config.axi_data_bytes - 1).bit_length()


def parameter_beat_bits(config: AcceleratorConfig) -> int:
    """Return the address width of the parameter buffer in beats."""
    size = config.parameter_depth * config.parameter_bytes
    return (size // config.axi_data_bytes - 1).bit_length()


def table_beat_bits(config: AcceleratorConfig) -> int:
    """Return the address width of the table in beats."""
    return (TABLE_BYTES // config.axi_data_bytes - 1).bit_length()


def tap_beat_bits(config: AcceleratorConfig) -> int:
    """Return the address width of the tap buffer in beats."""
    size = config.tap_depth * PATCH_TAPS * config.lanes
    return (size // config.axi_data_bytes - 1).bit_length()


class LoadUnit(wiring.Component):
    """Requests the data of coming instructions while it places those of the oldest.

    One beat a cycle; some 10 cycles from an instruction to its first ARVALID, 3 from a beat of R to
    the buffer. The buffer's side of an instruction says how many beats it takes: row_beats * rows *
    groups for FEATURE, run_beats * runs * blocks otherwise. If the last beat from memory is not the
    last of the buffer's side, or an address passes the buffer's end, the unit stops with
    ILLEGAL_INSTRUCTION.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    instruction : In(stream)   Load
    done : Out(1)   pulse: all data of the oldest instruction are written
    segment_base : In(array of SEGMENTS addresses)
    window_base, window_limit : In(64)   bytes
    axi : Out(AxiReadSignature)   with id LOAD_ID
    feature : Out(FeatureWritePort)
    weights, parameters, table, taps : Out(BeatWritePort)
    halt : In(1)   issue nothing, discard what arrives
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
    weights: Any
    parameters: Any
    table: Any
    taps: Any
    halt: Signal
    idle: Signal
    fault: Any
    busy: Signal
    wait_memory: Signal
    wait_bank: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        self._address_bits = {
            Target.FEATURE: feature_address_bits(config),
            Target.WEIGHT: weight_beat_bits(config),
            Target.PARAMETER: parameter_beat_bits(config),
            Target.TABLE: table_beat_bits(config),
            Target.TAPS: tap_beat_bits(config),
        }
        address = unsigned(config.axi_address_bits)
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Load))),
            "done": Out(1),
            "segment_base": In(data.ArrayLayout(address, SEGMENTS)),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "axi": Out(AxiReadSignature(config)),
            "feature": Out(FeatureWritePort(config)),
            "weights": Out(BeatWritePort(config, weight_beat_bits(config))),
            "parameters": Out(BeatWritePort(config, parameter_beat_bits(config))),
            "table": Out(BeatWritePort(config, table_beat_bits(config))),
            "taps": Out(BeatWritePort(config, tap_beat_bits(config))),
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
        m.submodules.reader = reader = DmaReader(
            config=config, unit=FaultUnit.LOAD, axi_id=LOAD_ID
        )
        m.submodules.regions = regions = StreamQueue(REGION, depth=QUEUED_REGIONS)
        m.submodules.walker = walker = RegionWalker(
            config=config, address_bits=self._address_bits)
        wiring.connect(m, runs.runs, reader.runs)
        wiring.connect(m, reader.axi, wiring.flipped(self.axi))
        wiring.connect(m, regions.output, walker.region)
        m.d.comb += [
            reader.window_base.eq(self.window_base),
            reader.window_limit.eq(self.window_limit),
            reader.halt.eq(self.halt),
            runs.segment_base.eq(self.segment_base),
            self.idle.eq(reader.idle),
        ]
        self._accept(m, runs.transfer, regions.input)
        self._place(m, reader, walker)

        placing = walker.beats.valid
        m.d.comb += [
            self.busy.eq(runs.busy | regions.output.valid | placing | self._writing),
            self.wait_memory.eq(placing & ~reader.beats.valid & ~self.wait_bank),
            self.wait_bank.eq(self.feature.valid & ~self.feature.ready),
        ]
        return m

    def _accept(self, m: Module, transfer: Any, region: Any) -> None:
        instruction = self.instruction.payload
        linear = instruction.target != Target.FEATURE
        m.d.comb += [
            self.instruction.ready.eq(transfer.ready & region.ready),
            transfer.valid.eq(self.instruction.valid & region.ready),
            region.valid.eq(self.instruction.valid & transfer.ready),
            *(transfer.payload[name].eq(instruction[name]) for name in MEMORY_SIDE.members),
            region.payload.start.eq(self._start(m, instruction)),
            region.payload.row_beats.eq(
                Mux(linear, instruction.run_beats, instruction.row_beats)
            ),
            region.payload.rows.eq(Mux(linear, instruction.runs, instruction.rows)),
            region.payload.groups.eq(Mux(linear, instruction.blocks, instruction.groups)),
            region.payload.row_stride.eq(instruction.row_stride),
            region.payload.group_stride.eq(instruction.group_stride),
            region.payload.linear.eq(linear),
            region.payload.target.eq(instruction.target),
            region.payload.index.eq(instruction.index),
        ]

    def _start(self, m: Module, instruction: Any) -> Signal:
        """Return `destination`, which a rule of Load puts at the begin of a beat, in beats."""
        config = self._config
        start = Signal(REGION_ADDRESS_BITS)
        destination = instruction.destination
        with m.Switch(instruction.target):
            with m.Case(Target.FEATURE):
                m.d.comb += start.eq(destination)
            with m.Case(Target.WEIGHT):
                m.d.comb += start.eq(destination * (config.cols // config.axi_data_bytes))
            with m.Case(Target.PARAMETER):
                if config.parameter_bytes >= config.axi_data_bytes:
                    scale = config.parameter_bytes // config.axi_data_bytes
                    m.d.comb += start.eq(destination * scale)
                else:
                    m.d.comb += start.eq(destination >> exact_log2(config.parameters_per_beat))
            with m.Case(Target.TAPS):
                beats = PATCH_TAPS * config.lanes // config.axi_data_bytes
                m.d.comb += start.eq(destination * beats)
        return start

    def _place(self, m: Module, reader: DmaReader, walker: RegionWalker) -> None:
        """Join places and data in a buffer in front of all the memories."""
        config = self._config
        places, beats = walker.beats, reader.beats
        place = places.payload
        m.submodules.placed = placed = StreamBuffer(data.StructLayout({
            "target": Target, "address": max(self._address_bits.values()), "bank": 2,
            "word": 8 * config.axi_data_bytes, "last": 1,
        }))
        self._writing = placed.output.valid
        beat, now = placed.input.payload, placed.output.payload
        target, word = now.target, now.word
        early = Signal(FEATURE_BANKS)  # banks of this beat that have been written
        bad = Signal()
        bad_index = Signal(INDEX_BITS)
        legal = ~place.outside & (place.last == beats.payload.last)
        free = placed.input.ready & ~bad
        m.d.comb += [
            places.ready.eq(beats.valid & free),  # an illegal beat is lost: `bad` ends all
            beats.ready.eq(places.valid & free),
            placed.input.valid.eq(places.valid & beats.valid & legal & ~bad),
            beat.target.eq(place.target),
            beat.address.eq(place.address),
            beat.bank.eq(place.bank),
            beat.word.eq(beats.payload.data),
            beat.last.eq(place.last),
            placed.output.ready.eq((target != Target.FEATURE) | self.feature.ready),
            self.done.eq(placed.output.valid & placed.output.ready & now.last),
        ]
        with m.If(places.valid & beats.valid & ~legal & free):
            m.d.sync += [bad.eq(1), bad_index.eq(place.index)]

        lanes = 8 * config.lanes
        m.d.comb += [self.feature.valid.eq(self._writing & (target == Target.FEATURE)),
                     self.feature.mask.eq(bank_mask(config, now.bank) & ~early)]
        with m.If(self.feature.valid):
            m.d.sync += early.eq(Mux(self.feature.ready, 0, early | self.feature.granted))
        words = [word[index * lanes:(index + 1) * lanes] for index in range(config.words_per_beat)]
        for bank in range(FEATURE_BANKS):
            m.d.comb += [
                self.feature.address[bank].eq(now.address),
                self.feature.data[bank].eq(Mux(now.bank[0] ^ bank & 1, words[-1], words[0])),
            ]
        for kind, port in ((Target.WEIGHT, self.weights), (Target.PARAMETER, self.parameters),
                           (Target.TABLE, self.table), (Target.TAPS, self.taps)):
            m.d.comb += [
                port.valid.eq(self._writing & (target == kind)),
                port.address.eq(now.address),
                port.data.eq(word),
            ]

        m.d.comb += self.fault.unit.eq(FaultUnit.LOAD)
        with m.If(reader.fault.valid):
            m.d.comb += [
                self.fault.valid.eq(1), self.fault.code.eq(reader.fault.code),
                self.fault.index.eq(reader.fault.index),
                self.fault.address.eq(reader.fault.address),
            ]
        with m.Else():
            m.d.comb += [
                self.fault.valid.eq(bad), self.fault.code.eq(Fault.ILLEGAL_INSTRUCTION),
                self.fault.index.eq(bad_index),
            ]
