"""The accumulators: two banks of int32 partial sums, filled by the array, emptied by Post."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pliant.spec.config import ACCUMULATOR_BANKS, AcceleratorConfig
from pliant_hw.array import sum_shape

ACCUMULATOR_READ_LATENCY = 2
"""Cycles from a read request to its lane group."""


class Accumulators(wiring.Component):
    """Adds one pixel's sums a cycle; serves one lane group a cycle from the other bank.

    An addition is announced one cycle before its sums. The new value can be read
    ACCUMULATE_DISTANCE (3) cycles after the announcement; the caller keeps announcements of one
    entry that far apart. The two sides must not use the same bank in the same cycle (tokens see to
    that).

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    add_valid, add_bank, add_entry : In
    add_overwrite : In   the sums replace the entry
    sums : In   cols sums of the addition announced in the cycle before
    read_valid, read_bank, read_entry, read_group : In
    values : Out   lanes x int32, ACCUMULATOR_READ_LATENCY cycles after the request
    """

    sums: Any
    values: Any
    add_valid: Signal
    add_bank: Signal
    add_entry: Signal
    add_overwrite: Signal
    read_valid: Signal
    read_bank: Signal
    read_entry: Signal
    read_group: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        entry = range(config.accumulator_depth)
        super().__init__({
            "add_valid": In(1),
            "add_bank": In(1),
            "add_entry": In(entry),
            "add_overwrite": In(1),
            "sums": In(data.ArrayLayout(sum_shape(config), config.cols)),
            "read_valid": In(1),
            "read_bank": In(1),
            "read_entry": In(entry),
            "read_group": In(range(max(2, config.groups_per_tile))),
            "values": Out(data.ArrayLayout(signed(32), config.lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        row = data.ArrayLayout(signed(32), config.cols)

        sum_valid = Signal()
        sum_bank = Signal()
        sum_overwrite = Signal()
        sum_entry = Signal.like(self.add_entry)
        write_valid = Signal(ACCUMULATOR_BANKS)
        write_entry = Signal.like(self.add_entry)
        write_data: Any = Signal(row, reset_less=True)
        m.d.sync += [
            sum_valid.eq(self.add_valid), sum_bank.eq(self.add_bank),
            sum_overwrite.eq(self.add_overwrite), sum_entry.eq(self.add_entry),
            write_valid.eq(0),
        ]

        stored = []
        for bank in range(ACCUMULATOR_BANKS):
            memory: Memory[Any, Any] = Memory(
                shape=32 * config.cols, depth=config.accumulator_depth, init=[])
            m.submodules[f"bank_{bank}"] = memory
            read, write = memory.read_port(), memory.write_port()
            adding = Signal(name=f"adding_{bank}")
            m.d.comb += [
                adding.eq(self.add_valid & (self.add_bank == bank)),
                read.en.eq(adding | (self.read_valid & (self.read_bank == bank))),
                read.addr.eq(Mux(adding, self.add_entry, self.read_entry)),
                write.en.eq(write_valid[bank]),
                write.addr.eq(write_entry),
                write.data.eq(write_data),
            ]
            stored.append(data.View(row, read.data))

        with m.If(sum_valid):
            m.d.sync += [write_valid.eq(1 << sum_bank), write_entry.eq(sum_entry)]
            for col in range(config.cols):
                old = Mux(sum_bank, stored[1][col], stored[0][col])
                m.d.sync += write_data[col].eq(
                    Mux(sum_overwrite, 0, old) + self.sums[col])

        read_bank = Signal()
        read_group = Signal.like(self.read_group)
        reading = Signal()
        values: Any = Signal(data.ArrayLayout(signed(32), config.lanes), reset_less=True)
        m.d.comb += self.values.eq(values)
        m.d.sync += [reading.eq(self.read_valid), read_bank.eq(self.read_bank),
                     read_group.eq(self.read_group)]
        for group in range(config.groups_per_tile):
            with m.If(reading & (read_group == group)):
                for lane in range(config.lanes):
                    col = group * config.lanes + lane
                    m.d.sync += values[lane].eq(
                        Mux(read_bank, stored[1][col], stored[0][col]))
        return m
