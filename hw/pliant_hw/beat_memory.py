"""A memory written in AXI beats and read in wider words: weights, parameters, table."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.layouts import BeatWritePort


class BeatMemory(wiring.Component):
    """`depth` words of `word_bytes`; one beat written and one word read each cycle.

    Parameters
    ----------
    config : AcceleratorConfig
    word_bytes : int
        A power of two, at least axi_data_bytes.
    depth : int
        Words; a power of two.

    Members
    -------
    write : In(BeatWritePort)   beat b goes to word b // beats_per_word
    read_enable, address : In
    data : Out(8*word_bytes)   the word, one cycle after `read_enable`; held until the next read
    """

    write: Any
    read_enable: Signal
    address: Signal
    data: Signal

    def __init__(self, *, config: AcceleratorConfig, word_bytes: int, depth: int) -> None:
        beats, rest = divmod(word_bytes, config.axi_data_bytes)
        if rest or beats < 1:
            raise ValueError(
                f"word_bytes = {word_bytes} is no multiple of axi_data_bytes "
                f"({config.axi_data_bytes})"
            )
        self._config = config
        self._beats = beats
        self._depth = depth
        self.beat_address_bits = (depth * beats - 1).bit_length()
        super().__init__({
            "write": In(BeatWritePort(config, self.beat_address_bits)),
            "read_enable": In(1),
            "address": In(range(depth)),
            "data": Out(8 * word_bytes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bits = 8 * self._config.axi_data_bytes
        memory: Memory[Any, Any] = Memory(shape=beat_bits * self._beats, depth=self._depth, init=[])
        m.submodules.memory = memory
        write, read = memory.write_port(granularity=beat_bits), memory.read_port()
        lane_bits = (self._beats - 1).bit_length()
        m.d.comb += [
            write.addr.eq(self.write.address[lane_bits:]),
            write.data.eq(self.write.data.replicate(self._beats)),
            read.addr.eq(self.address),
            read.en.eq(self.read_enable),
            self.data.eq(read.data),
        ]
        with m.If(self.write.valid):
            lane = self.write.address[:lane_bits] if lane_bits else 0
            m.d.comb += write.en.eq(1 << lane)
        return m
