"""The two sides of a transfer: runs of beats in memory and beats of a feature region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Load, Target, fields
from pliant.spec.registers import SEGMENTS
from pliant_hw.bursts import RUN_BEATS_BITS, run_layout
from pliant_hw.layouts import INDEX_BITS
from pliant_hw.streams import StreamBuffer

REGION_ADDRESS_BITS = 20
"""Holds any in-range address plus one stride, so that an overflow shows in the upper bits."""

_WIDTHS = {field.name: field.width for field in fields(Load)}

MEMORY_SIDE = data.StructLayout({
    **{name: unsigned(_WIDTHS[name]) for name in (
        "segment", "offset", "run_beats", "runs", "run_stride", "blocks", "block_stride",
    )},
    "index": unsigned(INDEX_BITS),
})
"""Fields of Load and Store that describe runs in memory."""

REGION = data.StructLayout({
    "start": unsigned(REGION_ADDRESS_BITS),
    "row_beats": unsigned(RUN_BEATS_BITS),
    "rows": unsigned(12),
    "groups": unsigned(12),
    "row_stride": unsigned(_WIDTHS["row_stride"]),
    "group_stride": unsigned(_WIDTHS["group_stride"]),
    "linear": unsigned(1),
    "target": unsigned(_WIDTHS["target"]),
    "index": unsigned(INDEX_BITS),
})
"""Beats on chip: a feature region, or consecutive addresses if `linear`.

`target` and `index` are handed through to each beat.
"""

REGION_BEAT = data.StructLayout({
    "address": unsigned(REGION_ADDRESS_BITS),
    "outside": unsigned(1),
    "bank": unsigned(2),
    "last": unsigned(1),
    "target": unsigned(_WIDTHS["target"]),
    "index": unsigned(INDEX_BITS),
})
"""Where one beat lies; `outside`: beyond its memory.

In a feature region its first word is in `bank`, and a second one in ``bank ^ 1``.
"""


def bank_mask(config: AcceleratorConfig, bank: Any) -> Any:
    """Return the feature banks of a beat whose first word is in `bank`."""
    touched = Cat(0, bank[1]) if config.words_per_beat == 2 else bank
    return (Const((1 << config.words_per_beat) - 1, 2) << touched)[:FEATURE_BANKS]


class RunWalker(wiring.Component):
    """Turns the memory side of an instruction into runs, one a cycle after three of preparation.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    transfer : In(stream)   MEMORY_SIDE
    segment_base : In(array of SEGMENTS addresses)
    runs : Out(stream(run_layout))   addresses wrap at axi_address_bits; the DMA checks the window
    busy : Out(1)
    """

    transfer: Any
    segment_base: Any
    runs: Any
    busy: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        address = unsigned(config.axi_address_bits)
        super().__init__({
            "transfer": In(stream.Signature(MEMORY_SIDE)),
            "segment_base": In(data.ArrayLayout(address, SEGMENTS)),
            "runs": Out(stream.Signature(run_layout(config))),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fields: Any = Signal(MEMORY_SIDE)
        base = Signal(self._config.axi_address_bits)
        address, block = Signal.like(base), Signal.like(base)
        run, row = Signal(_WIDTHS["runs"]), Signal(_WIDTHS["blocks"])
        last_run, last_block = run == fields.runs, row == fields.blocks
        m.submodules.out = out = StreamBuffer(run_layout(self._config))
        wiring.connect(m, out.output, wiring.flipped(self.runs))
        runs = out.input
        m.d.comb += [
            runs.payload.address.eq(address),
            runs.payload.beats.eq(fields.run_beats),
            runs.payload.last.eq(last_run & last_block),
            runs.payload.index.eq(fields.index),
            self.busy.eq(1),
        ]
        idle = Signal(init=1)  # a register: the dispatcher's queue waits for it
        m.d.comb += self.transfer.ready.eq(idle)
        following = Signal.like(base)
        m.d.comb += following.eq(
            Mux(last_run, block, address) + Mux(last_run, fields.block_stride, fields.run_stride)
        )
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.busy.eq(self.runs.valid)
                m.d.sync += [
                    fields.eq(self.transfer.payload),
                    base.eq(self.segment_base[self.transfer.payload.segment]),
                    run.eq(1),
                    row.eq(1),
                ]
                with m.If(self.transfer.valid):
                    m.d.sync += idle.eq(0)
                    m.next = "prepare"
            with m.State("prepare"):
                m.d.sync += [address.eq(base + fields.offset), block.eq(base + fields.offset)]
                m.next = "walk"
            with m.State("walk"):
                m.d.comb += runs.valid.eq(1)
                with m.If(runs.ready):
                    m.d.sync += [address.eq(following), run.eq(Mux(last_run, 1, run + 1))]
                    with m.If(last_run):
                        m.d.sync += [block.eq(following), row.eq(row + 1)]
                        with m.If(last_block):
                            m.d.sync += idle.eq(1)
                            m.next = "idle"
        return m


class RegionWalker(wiring.Component):
    """Turns a region into the places of its beats, one a cycle, latency 2, no bubbles between.

    Order: column fastest, then row, then lane group. The user must refuse the first beat that is
    `outside`.

    Parameters
    ----------
    config : AcceleratorConfig
    address_bits : mapping of Target to int
        Address width of the memory of each target.

    Members
    -------
    region : In(stream)   REGION
    beats : Out(stream)   REGION_BEAT
    """

    region: Any
    beats: Any

    def __init__(
        self, *, config: AcceleratorConfig, address_bits: Mapping[Target, int]
    ) -> None:
        self._config = config
        self._address_bits = address_bits
        super().__init__({
            "region": In(stream.Signature(REGION)), "beats": Out(stream.Signature(REGION_BEAT)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        region: Any = Signal(REGION)
        m.submodules.out = out = StreamBuffer(REGION_BEAT)
        wiring.connect(m, out.output, wiring.flipped(self.beats))
        beats = out.input
        beat = beats.payload
        valid = Signal()
        address = Signal(REGION_ADDRESS_BITS)
        row_start, group_start = Signal.like(address), Signal.like(address)
        # What is left counts down; whether it is the last is known with it, one step ahead.
        columns_left, rows_left, groups_left = Signal(RUN_BEATS_BITS), Signal(12), Signal(12)
        last_column, last_row, last_group = Signal(), Signal(), Signal()
        odd_row, odd_column = Signal(), Signal()
        two_words = self._config.words_per_beat == 2
        step = Const(1, 1) if two_words else region.linear | odd_column
        m.d.comb += [
            beats.valid.eq(valid),
            beat.address.eq(address),
            beat.outside.eq(self._outside(m, region.target, address)),
            beat.bank.eq(Cat(odd_column, odd_row) ^ group_start[:2]),
            beat.last.eq(last_column & last_row & last_group),
            beat.target.eq(region.target),
            beat.index.eq(region.index),
            self.region.ready.eq(~valid | (beats.ready & beat.last)),
        ]

        next_row = Signal.like(address)
        m.d.comb += next_row.eq(
            Mux(last_row, group_start, row_start)
            + Mux(last_row, region.group_stride, Mux(odd_row, region.row_stride, 0))
        )
        with m.If(beats.ready):
            m.d.sync += [
                address.eq(Mux(last_column & ~region.linear, next_row, address + step)),
                columns_left.eq(Mux(last_column, region.row_beats, columns_left - 1)),
                last_column.eq(Mux(last_column, region.row_beats == 1, columns_left == 2)),
                odd_column.eq(0 if two_words else ~last_column & ~odd_column),
            ]
            with m.If(last_column):
                m.d.sync += [
                    row_start.eq(next_row),
                    rows_left.eq(Mux(last_row, region.rows, rows_left - 1)),
                    last_row.eq(Mux(last_row, region.rows == 1, rows_left == 2)),
                    odd_row.eq(~last_row & ~odd_row),
                ]
                with m.If(last_row):
                    m.d.sync += [group_start.eq(next_row), groups_left.eq(groups_left - 1),
                                 last_group.eq(groups_left == 2)]
        with m.If(self.region.ready):
            first = self.region.payload
            m.d.sync += [
                valid.eq(self.region.valid),
                region.eq(first),
                address.eq(first.start), row_start.eq(first.start), group_start.eq(first.start),
                columns_left.eq(first.row_beats), last_column.eq(first.row_beats == 1),
                rows_left.eq(first.rows), last_row.eq(first.rows == 1),
                groups_left.eq(first.groups), last_group.eq(first.groups == 1),
                odd_row.eq(0), odd_column.eq(0),
            ]
        return m

    def _outside(self, m: Module, target: Value, address: Signal) -> Signal:
        outside = Signal()
        with m.Switch(target):
            for kind, width in self._address_bits.items():
                with m.Case(kind):
                    m.d.comb += outside.eq(address[width:].any())
        return outside
