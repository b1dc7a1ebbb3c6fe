"""Per-channel parameters: a narrow buffer, and registers that hold those of a lane group."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Post
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort, instruction_layout
from pliant_hw.requantizer import parameter_layout


def request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return `first`, the index of a tile's first record, and how many lane groups need some."""
    return data.StructLayout({
        "first": range(config.parameter_depth),
        "groups": instruction_layout(Post)["groups"].shape,
    })


class ParameterUnit(wiring.Component):
    """Keeps parameter records; presents those of one lane group, with those of the next at hand.

    The groups of a request take the records of a tile, `cols` of them, in turns. A group's records
    are fetched in ``lanes*parameter_bytes / word + 2`` cycles, where a word is the wider of a beat
    and a record, as soon as those of the group before are presented.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write : In(BeatWritePort)
    request : In(stream)   see request_layout; `first` is a multiple of cols
    available : Out   the next group's records are in place and not claimed
    claim : In   a value is issued that will need them
    advance : In   that value comes in the next cycle: present them
    parameters : Out   lanes x record
    """

    write: Any
    request: Any
    parameters: Any
    available: Signal
    claim: Signal
    advance: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word_bytes = max(config.axi_data_bytes, config.parameter_bytes)
        depth = config.parameter_depth * config.parameter_bytes // word_bytes
        self._memory = BeatMemory(config=config, word_bytes=word_bytes, depth=depth)
        self._records = word_bytes // config.parameter_bytes
        self.beat_address_bits = self._memory.beat_address_bits
        super().__init__({
            "write": In(BeatWritePort(config, self.beat_address_bits)),
            "request": In(stream.Signature(request_layout(config))),
            "available": Out(1),
            "claim": In(1),
            "advance": In(1),
            "parameters": Out(data.ArrayLayout(parameter_layout(config), config.lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.memory = memory = self._memory
        m.d.comb += [
            memory.write.valid.eq(self.write.valid),
            memory.write.address.eq(self.write.address),
            memory.write.data.eq(self.write.data),
        ]

        words = config.lanes // self._records
        first = Signal.like(memory.address)
        left = Signal.like(self.request.payload.groups)
        place = Signal(range(max(2, config.groups_per_tile)))
        reading, arriving, full, claimed = Signal(), Signal(), Signal(), Signal()
        word, arriving_word = Signal(range(max(2, words))), Signal(range(max(2, words)))
        m.d.comb += [
            memory.read_enable.eq(reading),
            self.request.ready.eq(left == 0),
            self.available.eq(full & ~claimed),
        ]
        m.d.sync += [arriving.eq(reading), arriving_word.eq(word)]
        with m.If(self.claim):
            m.d.sync += claimed.eq(1)
        with m.If(arriving & ~reading):
            m.d.sync += full.eq(1)
        with m.If(self.advance):
            m.d.sync += [full.eq(0), claimed.eq(0)]
        with m.If((left != 0) & ~reading & ~arriving & (~full | self.advance)):
            m.d.sync += reading.eq(1)
        with m.If(reading):
            m.d.sync += [memory.address.eq(memory.address + 1), word.eq(word + 1)]
            with m.If(word == words - 1):
                m.d.sync += [reading.eq(0), word.eq(0), left.eq(left - 1), place.eq(place + 1)]
                with m.If(place == config.groups_per_tile - 1):
                    m.d.sync += [place.eq(0), memory.address.eq(first)]
        with m.If(self.request.valid & self.request.ready):
            begin = self.request.payload.first >> (self._records - 1).bit_length()
            m.d.sync += [left.eq(self.request.payload.groups), place.eq(0), first.eq(begin),
                         memory.address.eq(begin)]

        records = data.ArrayLayout(parameter_layout(config), config.lanes)
        following: Any = Signal(records, reset_less=True)
        presented: Any = Signal(records, reset_less=True)
        for index in range(words):
            with m.If(arriving & (arriving_word == index)):
                for slot in range(self._records):
                    record = memory.data.word_select(slot, 8 * config.parameter_bytes)
                    lane = index * self._records + slot
                    m.d.sync += following[lane].eq(self._unpack(record))
        with m.If(self.advance):
            m.d.sync += presented.eq(following)
        m.d.comb += self.parameters.eq(presented)
        return m

    def _unpack(self, record: Value) -> Value:
        layout = parameter_layout(self._config)
        multiplier_bytes = 4 if self._config.parameter_bytes == 16 else 2
        shift_at = 32 + 8 * multiplier_bytes
        return Cat(  # in the order of parameter_layout
            record[:32],
            record[32:32 + self._config.multiplier_bits],
            record[shift_at:shift_at + layout["shift"].shape.width],
        )
