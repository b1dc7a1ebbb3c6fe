"""Contiguous runs of beats and the AXI4 bursts they are split into."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.layouts import INDEX_BITS

RUN_BEATS_BITS = 20
WINDOW_BITS = 64


def run_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a contiguous run: byte address, beats (at least 1), and whom it belongs to.

    `last` marks the last run of an instruction, `index` is the instruction's place in the program.
    """
    return data.StructLayout({
        "address": unsigned(config.axi_address_bits),
        "beats": unsigned(RUN_BEATS_BITS),
        "last": unsigned(1),
        "index": unsigned(INDEX_BITS),
    })


def burst_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return one AXI burst: byte address, `length` in beats less one; `last` ends the last run."""
    return data.StructLayout({
        "address": unsigned(config.axi_address_bits),
        "length": unsigned(8),
        "last": unsigned(1),
        "index": unsigned(INDEX_BITS),
    })


class BurstSplitter(wiring.Component):
    """Checks runs against the window and splits them at multiples of the longest burst.

    Bursts end at multiples of ``axi_burst_beats * axi_data_bytes`` bytes, a power of two up to
    4 KiB, so none crosses a 4 KiB boundary and every length follows from bits of the address.
    Latency 3, one burst a cycle, no bubble between runs. A run that is misaligned or not wholly
    inside [window_base, window_limit) is reported and stops the splitter until reset or `flush`.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    runs : In(stream(run_layout))
    bursts : Out(stream(burst_layout))
    window_base, window_limit : In(64)   bytes
    flush : In(1)   drops every run and burst that has not been taken
    outside : Out(1)   a run was refused: `outside_address`, `outside_index`
    """

    runs: Any
    bursts: Any
    window_base: Signal
    window_limit: Signal
    flush: Signal
    outside: Signal
    outside_address: Signal
    outside_index: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "runs": In(stream.Signature(run_layout(config))),
            "bursts": Out(stream.Signature(burst_layout(config))),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "flush": In(1),
            "outside": Out(1),
            "outside_address": Out(config.axi_address_bits),
            "outside_index": Out(INDEX_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        byte_bits = config.axi_data_bytes.bit_length() - 1
        low_bits = config.axi_burst_beats.bit_length() - 1
        longest = config.axi_burst_beats - 1

        # Stage 1: sums and the lower bound.
        run = self.runs.payload
        beat_address = run.address[byte_bits:]
        first: Any = Signal(run_layout(config))
        first_valid, first_ready = Signal(), Signal()
        below = Signal()
        end = Signal(config.axi_address_bits - byte_bits + 1)
        extent = Signal(range((1 << low_bits) + (1 << RUN_BEATS_BITS)))
        m.d.comb += self.runs.ready.eq((first_ready | ~first_valid) & ~self.flush)
        with m.If(self.runs.ready):
            m.d.sync += [
                first_valid.eq(self.runs.valid),
                first.eq(run),
                below.eq((run.address < self.window_base) | run.address[:byte_bits].any()),
                end.eq(beat_address + run.beats),
                extent.eq(beat_address[:low_bits] + run.beats - 1),
            ]

        # Stage 2: the upper bound.
        second: Any = Signal(run_layout(config))
        second_valid, second_ready = Signal(), Signal()
        refused = Signal()
        second_extent = Signal.like(extent)
        m.d.comb += first_ready.eq(second_ready | ~second_valid)
        with m.If(first_ready):
            m.d.sync += [
                second_valid.eq(first_valid),
                second.eq(first),
                second_extent.eq(extent),
                refused.eq(below | (Cat(Const(0, byte_bits), end) > self.window_limit)),
            ]

        # Stage 3: one burst a cycle. `blocks` counts the boundaries that the rest still crosses.
        block = Signal(config.axi_address_bits - byte_bits - low_bits)
        low = Signal(low_bits)
        blocks = Signal(len(extent) - low_bits)
        final = Signal(low_bits)
        valid, last = Signal(), Signal()
        index = Signal(INDEX_BITS)
        ends = Signal()  # none: this burst is the last of its run
        m.d.comb += [
            second_ready.eq((~valid | (self.bursts.ready & ends)) & ~refused),
            self.outside.eq(second_valid & refused),
            self.outside_address.eq(second.address),
            self.outside_index.eq(second.index),
            self.bursts.valid.eq(valid & ~self.flush),
            self.bursts.payload.address.eq(Cat(Const(0, byte_bits), low, block)),
            self.bursts.payload.length.eq(Mux(ends, final, longest) - low),
            self.bursts.payload.last.eq(last & ends),
            self.bursts.payload.index.eq(index),
        ]
        with m.If(self.bursts.ready & valid):
            m.d.sync += [
                valid.eq(~ends), block.eq(block + 1), low.eq(0), blocks.eq(blocks - 1),
                ends.eq(blocks == 1),
            ]
        with m.If(second_ready & second_valid):
            m.d.sync += [
                valid.eq(1),
                Cat(low, block).eq(second.address[byte_bits:]),
                Cat(final, blocks).eq(second_extent),
                ends.eq(second_extent[low_bits:] == 0),
                last.eq(second.last),
                index.eq(second.index),
            ]

        with m.If(self.flush):
            m.d.sync += [first_valid.eq(0), second_valid.eq(0), valid.eq(0)]
        return m
