"""The matrix unit: sampler, weight loader, array; fills accumulator tiles."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import ACCUMULATE_DISTANCE, FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix
from pliant_hw.array import ArrayFactory, MatrixArray, sum_shape
from pliant_hw.layouts import FEATURE_READ_LATENCY, FeatureReadPort, instruction_layout
from pliant_hw.streams import StreamBuffer, StreamRegister
from pliant_hw.walker import Walker


class WeightLoader(wiring.Component):
    """Brings the weights of one pass after another into the array's shadow tile.

    A tile takes `rows` cycles; the next one starts in the cycle after `take`, so passes of `rows`
    pixels or more never wait. With narrow weights a word of the buffer is read for two rows, one
    after the other, and its low or high halves are extended to bytes.

    Members
    -------
    instruction : In(stream)   decoded Matrix
    ready : Out   the shadow tile is complete in time for a word issued now
    take : In   a word that will swap the tiles is issued now; only when `ready`
    read_enable, address : Out, data : In   weight buffer, latency 1
    write, row, weights : Out   to the array's shadow tile; `weights` are cols x int8
    """

    instruction: Any
    ready: Signal
    take: Signal
    read_enable: Signal
    address: Signal
    data: Any
    write: Signal
    row: Signal
    weights: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Matrix))),
            "ready": Out(1),
            "take": In(1),
            "read_enable": Out(1),
            "address": Out(range(config.weight_depth)),
            "data": In(data.ArrayLayout(signed(8), config.cols)),
            "write": Out(1),
            "row": Out(range(config.rows)),
            "weights": Out(data.ArrayLayout(signed(8), config.cols)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self._config.rows
        new = self.instruction.payload
        current: Any = Signal(instruction_layout(Matrix))
        remaining = Signal()  # passes of `current` are left to load
        loading = Signal()
        row = Signal(range(rows))
        kernel_x, kernel_y, group = Signal(8), Signal(8), Signal(12)
        last_row = Signal()
        # These stand still during a pass and are used with its last row alone.
        last_x, last_y, last_group, last_pass = Signal(), Signal(), Signal(), Signal()
        assert rows >= 4
        m.d.comb += [last_row.eq(row == rows - 1), self.read_enable.eq(loading)]
        m.d.sync += [
            last_x.eq(kernel_x == current.kernel_width - 1),
            last_y.eq(kernel_y == current.kernel_height - 1),
            last_group.eq(group == current.groups - 1),
            last_pass.eq(last_x & last_y & last_group),
        ]
        # High from the last row's read on: the word's swap comes FEATURE_READ_LATENCY cycles after
        # its issue, that row's write one cycle after its read.
        assert FEATURE_READ_LATENCY >= 2
        with m.If(self.take):
            m.d.sync += self.ready.eq(0)
        with m.Elif(loading & (row == rows - 2)):
            m.d.sync += self.ready.eq(1)
        m.d.sync += [self.write.eq(loading), self.row.eq(row)]

        # Of what the buffer returns now. Each bit of a weight is a function of at most five.
        narrow, upper = Signal(), Signal()
        m.d.sync += [narrow.eq(current.narrow_weights), upper.eq(current.narrow_weights & row[0])]
        for found, weight in zip(self.data, self.weights, strict=True):
            half = Mux(upper, found[4:], found[:4])
            m.d.comb += weight.eq(Cat(half, Mux(narrow, half[3].replicate(4), found[4:])))

        with m.If(loading):
            m.d.sync += [self.address.eq(self.address + (row[0] | ~current.narrow_weights)),
                         row.eq(row + 1)]
            with m.If(last_row):
                m.d.sync += [loading.eq(0), row.eq(0), kernel_x.eq(kernel_x + 1)]
                with m.If(last_x):
                    m.d.sync += [kernel_x.eq(0), kernel_y.eq(kernel_y + 1)]
                with m.If(last_x & last_y):
                    m.d.sync += [kernel_y.eq(0), group.eq(group + 1)]
                with m.If(last_pass):
                    m.d.sync += remaining.eq(0)

        starts = Signal()  # the shadow tile is free from the next cycle on
        final = Signal()  # the last pass of `current` is being loaded
        accepted = Signal()
        more = Signal()
        m.d.comb += [
            starts.eq((~loading & ~self.ready) | self.take),
            final.eq(loading & last_pass),
            self.instruction.ready.eq(Mux(loading, final & last_row, ~remaining)),
            accepted.eq(self.instruction.valid & self.instruction.ready),
            more.eq(accepted | (remaining & ~final)),
        ]
        with m.If(starts & more):
            m.d.sync += loading.eq(1)
        with m.If(accepted):
            m.d.sync += [current.eq(new), remaining.eq(1), self.address.eq(new.weights),
                         group.eq(0), kernel_y.eq(0), kernel_x.eq(0)]
        return m


class MatrixUnit(wiring.Component):
    """Executes Matrix instructions, one word a cycle, without a bubble between passes or tiles.

    Latency from the acceptance of a feature word to its accumulation: FEATURE_READ_LATENCY + 2
    cycles and the array's. A pass takes max(pixels, rows) cycles, plus one for each bank
    conflict; an instruction with `accumulate` starts two cycles later.

    Parameters
    ----------
    config : AcceleratorConfig
    array : ArrayFactory
        Which of the matrix arrays to use.

    Members
    -------
    instruction : In(stream)   decoded Matrix; its tokens have been consumed
    done : Out   pulse: the oldest instruction's accumulators are complete
    feature : Out(FeatureReadPort)
    weight_enable, weight_address : Out, weight_data : In   weight buffer, latency 1
    add_valid, add_bank, add_entry, add_overwrite, sums : Out   see Accumulators
    busy, active, wait_weights, wait_bank : Out   for the counters
    """

    instruction: Any
    feature: Any
    weight_data: Any
    sums: Any
    done: Signal
    weight_enable: Signal
    weight_address: Signal
    add_valid: Signal
    add_bank: Signal
    add_entry: Signal
    add_overwrite: Signal
    busy: Signal
    active: Signal
    wait_weights: Signal
    wait_bank: Signal

    def __init__(
        self, *, config: AcceleratorConfig, array: ArrayFactory = MatrixArray
    ) -> None:
        self._config = config
        self._array = array(config=config)
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Matrix))),
            "done": Out(1),
            "feature": Out(FeatureReadPort(config)),
            "weight_enable": Out(1),
            "weight_address": Out(range(config.weight_depth)),
            "weight_data": In(data.ArrayLayout(signed(8), config.cols)),
            "add_valid": Out(1),
            "add_bank": Out(1),
            "add_entry": Out(range(config.accumulator_depth)),
            "add_overwrite": Out(1),
            "sums": Out(data.ArrayLayout(sum_shape(config), config.cols)),
            "busy": Out(1),
            "active": Out(1),
            "wait_weights": Out(1),
            "wait_bank": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        tag_layout = data.StructLayout({
            "pad_value": signed(8),
            "bank": unsigned(1),
            "base": unsigned(12),
            "accumulate": unsigned(1),
        })
        m.submodules.walker = walker = Walker(config=config, tag=tag_layout)
        m.submodules.loader = loader = WeightLoader(config=config)
        m.submodules.array = array = self._array
        m.submodules.accepted = instruction = StreamRegister(instruction_layout(Matrix))
        m.submodules.pending = pending = StreamBuffer(walker.nest.payload.shape())
        wiring.connect(m, wiring.flipped(self.instruction), instruction.input)
        wiring.connect(m, pending.output, walker.nest)

        # An instruction goes to the weight loader and, through a queue, to the walker.
        offered, new = instruction.output, instruction.output.payload
        nest, tag = pending.input.payload.nest, pending.input.payload.tag
        m.d.comb += [
            loader.instruction.payload.eq(new),
            loader.instruction.valid.eq(offered.valid & pending.input.ready),
            pending.input.valid.eq(offered.valid & loader.instruction.ready),
            offered.ready.eq(loader.instruction.ready & pending.input.ready),
            nest.base.eq(new.source), nest.group_stride.eq(new.group_stride),
            nest.row_stride.eq(new.row_stride),
            nest.height.eq(new.height), nest.width.eq(new.width),
            nest.origin_y.eq(new.origin_y), nest.origin_x.eq(new.origin_x),
            nest.groups.eq(new.groups),
            nest.outer_height.eq(new.kernel_height), nest.outer_width.eq(new.kernel_width),
            nest.outer_step_y.eq(new.dilation_y), nest.outer_step_x.eq(new.dilation_x),
            nest.inner_height.eq(new.out_height), nest.inner_width.eq(new.out_width),
            nest.inner_step_y.eq(new.stride_y), nest.inner_step_x.eq(new.stride_x),
            tag.pad_value.eq(new.pad_value), tag.bank.eq(new.accumulator_bank),
            tag.base.eq(new.accumulator_base), tag.accumulate.eq(new.accumulate),
        ]

        # Issue: a position goes on when its weights are there and the buffer takes the request.
        # A partial sum can be read again ACCUMULATE_DISTANCE cycles later. That takes care where
        # an entry may come back sooner: after a pass of two pixels that a bank conflict stretched
        # (one of a single pixel still waits for weights), and where an accumulating instruction
        # starts.
        position = walker.position.payload
        valid = walker.position.valid
        weights_ready = Signal()
        issue = Signal()
        words = Signal(range(ACCUMULATE_DISTANCE + 1))  # of this pass; saturates
        recent = Signal(ACCUMULATE_DISTANCE - 1)  # cycles before this one that issued a word
        hold = Signal()
        m.d.sync += recent.eq(Cat(issue, recent))
        with m.If(issue):
            m.d.sync += words.eq(Mux(position.inner_first, 1, Mux(
                words == ACCUMULATE_DISTANCE, ACCUMULATE_DISTANCE, words + 1)))
        m.d.comb += [
            hold.eq(recent.any() & Mux(position.first, position.tag.accumulate,
                                       words < ACCUMULATE_DISTANCE)),
            weights_ready.eq(~position.inner_first | (loader.ready & ~hold)),
            self.feature.valid.eq(valid & position.inside & weights_ready),
            self.feature.mask.eq(1 << position.bank),
            issue.eq(valid & weights_ready & (~position.inside | self.feature.ready)),
            walker.position.ready.eq(issue),
            loader.take.eq(issue & position.inner_first),
            self.active.eq(issue),
            self.wait_weights.eq(valid & ~weights_ready),
            self.wait_bank.eq(self.feature.valid & ~self.feature.ready),
        ]
        m.d.comb += [self.feature.address[bank].eq(position.address)
                     for bank in range(FEATURE_BANKS)]

        # What must be known of a word later on travels beside it. Only the valid bits have a reset:
        # the rest can become shift registers made of LUTs, which have none.
        stages = FEATURE_READ_LATENCY + array.latency - 1
        valids = Signal(stages)
        m.d.sync += valids.eq(Cat(issue, valids))
        positions: list[Any] = [position]
        for stage in range(stages):
            later: Any = Signal(position.shape(), name=f"position_{stage}", reset_less=True)
            m.d.sync += later.eq(positions[-1])
            positions.append(later)

        arrived = positions[FEATURE_READ_LATENCY]
        arrived_valid = valids[FEATURE_READ_LATENCY - 1]
        lanes = data.ArrayLayout(signed(8), config.rows)
        word: Any = Signal(lanes)
        m.d.comb += word.as_value().eq(self.feature.data[arrived.bank])
        m.d.comb += [
            array.valid.eq(arrived_valid),
            array.swap.eq(arrived.inner_first),
            *(array.word[row].eq(
                Mux(arrived.inside, word[row], arrived.tag.pad_value))
              for row in range(config.rows)),
            self.weight_enable.eq(loader.read_enable),
            self.weight_address.eq(loader.address),
            array.weight_write.eq(loader.write),
            array.weight_row.eq(loader.row),
            loader.data.eq(self.weight_data),
            array.weight_data.eq(loader.weights),
            self.sums.eq(array.sums),
        ]

        leaving, leaving_valid = positions[-1], valids[-1]
        entry = Signal(range(config.accumulator_depth))  # of the word behind the leaving one
        m.d.comb += [
            self.add_valid.eq(leaving_valid),
            self.add_bank.eq(leaving.tag.bank),
            self.add_overwrite.eq(leaving.first & ~leaving.tag.accumulate),
            self.add_entry.eq(
                Mux(leaving.inner_first, leaving.tag.base, entry)),
        ]
        with m.If(leaving_valid):
            m.d.sync += entry.eq(self.add_entry + 1)

        finished = Signal(2)  # sums added, then written
        in_flight = Signal(range(16))
        accepted = Signal()
        m.d.comb += accepted.eq(self.instruction.valid & self.instruction.ready)
        m.d.sync += [
            finished.eq((finished << 1) | (leaving_valid & leaving.last)),
            in_flight.eq(in_flight + accepted - self.done),
        ]
        m.d.comb += [self.done.eq(finished[1]), self.busy.eq(in_flight != 0)]
        return m
