"""The table: any int8 to int8 function, one lookup per lane a cycle."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import TABLE_BYTES
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort

LOOKUP_LATENCY = 1


class LookupTable(wiring.Component):
    """256 entries, a copy for each lane; one word a cycle, latency 1.

    Load writes a staging memory in beats; `update` copies it to the lanes, one entry a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write : In(BeatWritePort)
    stale : Out   the staging memory has been written, its copy is not complete
    update : In   pulse: copy it; no word may use the table until it is no longer stale
    updating : Out   it is being copied
    valid, enable : In, words : In   lanes x int8; unchanged when `enable` is low
    out_valid : Out, results : Out   lanes x int8
    """

    write: Any
    words: Any
    results: Any
    update: Signal
    stale: Signal
    updating: Signal
    valid: Signal
    enable: Signal
    out_valid: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        beat = config.axi_data_bytes
        self._staging = BeatMemory(config=config, word_bytes=beat, depth=TABLE_BYTES // beat)
        self.beat_address_bits = self._staging.beat_address_bits
        word = data.ArrayLayout(signed(8), config.lanes)
        super().__init__({
            "write": In(BeatWritePort(config, self.beat_address_bits)),
            "update": In(1),
            "stale": Out(1),
            "updating": Out(1),
            "valid": In(1),
            "enable": In(1),
            "words": In(word),
            "out_valid": Out(1),
            "results": Out(word),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.staging = staging = self._staging
        m.d.comb += [
            staging.write.valid.eq(self.write.valid),
            staging.write.address.eq(self.write.address),
            staging.write.data.eq(self.write.data),
        ]
        changed = Signal()
        copying = Signal()
        arriving = Signal()
        entry = Signal(range(TABLE_BYTES))
        arriving_entry = Signal.like(entry)
        byte_bits = (self._config.axi_data_bytes - 1).bit_length()
        m.d.comb += [
            staging.read_enable.eq(copying),
            staging.address.eq(entry[byte_bits:]),
            self.updating.eq(copying | arriving),
        ]
        m.d.sync += [arriving.eq(copying), arriving_entry.eq(entry)]
        with m.If(copying):
            m.d.sync += entry.eq(entry + 1)
            with m.If(entry == TABLE_BYTES - 1):
                m.d.sync += copying.eq(0)
        with m.If(self.update):
            m.d.sync += [copying.eq(1), entry.eq(0), changed.eq(0)]
        with m.If(arriving & ~copying & ~changed):  # `changed | updating`, known a cycle ahead
            m.d.sync += self.stale.eq(0)
        with m.If(self.write.valid):
            m.d.sync += [changed.eq(1), self.stale.eq(1)]
        value = Signal(8)
        m.d.comb += value.eq(staging.data.word_select(arriving_entry[:byte_bits], 8))

        enabled = Signal()
        m.d.sync += [self.out_valid.eq(self.valid), enabled.eq(self.enable)]
        for index in range(self._config.lanes):
            memory: Memory[Any, Any] = Memory(shape=8, depth=TABLE_BYTES, init=[])
            m.submodules[f"lane_{index}"] = memory
            read, write = memory.read_port(), memory.write_port()
            unchanged = Signal(8, name=f"unchanged_{index}")
            m.d.sync += unchanged.eq(self.words[index])
            m.d.comb += [
                write.addr.eq(arriving_entry), write.data.eq(value), write.en.eq(arriving),
                read.addr.eq(self.words[index].as_unsigned()),
                self.results[index].eq(Mux(enabled, read.data, unchanged).as_signed()),
            ]
        return m
