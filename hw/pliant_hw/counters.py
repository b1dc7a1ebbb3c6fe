"""Performance counters."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.registers import COUNTER_BITS, COUNTERS


class Counters(wiring.Component):
    """Counts the cycles in which each event is high while a program runs; latency 1.

    Members
    -------
    events : In(len(COUNTERS))   bit i belongs to ``COUNTERS[i]``
    running : In(1)   count
    clear : In(1)   zero all counters; wins over counting
    values : Out(array of 48-bit counters)
    """

    events: Signal
    running: Signal
    clear: Signal
    values: Any

    def __init__(self) -> None:
        super().__init__({
            "events": In(len(COUNTERS)),
            "running": In(1),
            "clear": In(1),
            "values": Out(data.ArrayLayout(COUNTER_BITS, len(COUNTERS))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        events = Signal.like(self.events)
        m.d.sync += events.eq(self.events & self.running.replicate(len(COUNTERS)))
        for index in range(len(COUNTERS)):
            with m.If(events[index]):
                m.d.sync += self.values[index].eq(self.values[index] + 1)
        with m.If(self.clear):
            m.d.sync += [self.values.eq(self.values.shape().const(None)), events.eq(0)]
        return m
