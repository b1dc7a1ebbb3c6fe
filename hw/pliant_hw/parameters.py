"""Per-channel parameters: a narrow buffer, and registers that hold those of one tile."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort
from pliant_hw.requantizer import parameter_layout


class ParameterUnit(wiring.Component):
    """Keeps parameter records and presents those of one lane group.

    A tile of `cols` records is fetched in ``cols*parameter_bytes / word + 2`` cycles, where a
    word is the wider of a beat and a record.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write : In(BeatWritePort)
    fetch : In   begin to fetch; pulse
    first : In   index of the first record, a multiple of cols
    ready : Out   the records fetched last are in place
    group : In   lane group to present
    parameters : Out   lanes x record, combinational from `group`
    """

    write: Any
    parameters: Any
    fetch: Signal
    first: Signal
    ready: Signal
    group: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word_bytes = max(config.axi_data_bytes, config.parameter_bytes)
        depth = config.parameter_depth * config.parameter_bytes // word_bytes
        self._memory = BeatMemory(config=config, word_bytes=word_bytes, depth=depth)
        self._records = word_bytes // config.parameter_bytes
        self.beat_address_bits = self._memory.beat_address_bits
        super().__init__({
            "write": In(BeatWritePort(config, self.beat_address_bits)),
            "fetch": In(1),
            "first": In(range(config.parameter_depth)),
            "ready": Out(1),
            "group": In(range(max(2, config.groups_per_tile))),
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

        words = config.cols // self._records
        reading = Signal()
        word = Signal(range(max(2, words)))
        arriving = Signal()
        arriving_word = Signal.like(word)
        m.d.sync += [arriving.eq(reading), arriving_word.eq(word)]
        m.d.comb += [
            memory.read_enable.eq(reading),
            self.ready.eq(~reading & ~arriving),
        ]
        with m.If(reading):
            m.d.sync += [memory.address.eq(memory.address + 1), word.eq(word + 1)]
            with m.If(word == words - 1):
                m.d.sync += reading.eq(0)
        with m.If(self.fetch):
            shift = (self._records - 1).bit_length()
            m.d.sync += [reading.eq(1), word.eq(0), memory.address.eq(self.first >> shift)]

        channels: list[Any] = [Signal(parameter_layout(config), name=f"channel_{index}",
                                      reset_less=True)
                    for index in range(config.cols)]
        for index in range(words):
            with m.If(arriving & (arriving_word == index)):
                for slot in range(self._records):
                    record = memory.data.word_select(slot, 8 * config.parameter_bytes)
                    channel = channels[index * self._records + slot]
                    m.d.sync += channel.eq(self._unpack(record))
        for lane in range(config.lanes):
            chosen: Value = channels[lane].as_value()
            for group in range(1, config.groups_per_tile):
                other = channels[group * config.lanes + lane].as_value()
                chosen = Mux(self.group == group, other, chosen)
            m.d.comb += self.parameters[lane].eq(chosen)
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
