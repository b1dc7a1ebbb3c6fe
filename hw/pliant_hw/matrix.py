"""The matrix unit: sampler, weight loader, array; fills accumulator tiles."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import ACCUMULATE_DISTANCE, FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix
from pliant_hw.array import ArrayFactory, MatrixArray, sum_shape
from pliant_hw.displacer import NEIGHBOURS
from pliant_hw.interpolator import INTERPOLATOR_LATENCY, Interpolator
from pliant_hw.layouts import FEATURE_READ_LATENCY, FeatureReadPort, instruction_layout
from pliant_hw.pipeline import delayed
from pliant_hw.sampler import Sampler
from pliant_hw.streams import StreamBuffer, StreamRegister


class WeightLoader(wiring.Component):
    """Brings the weights of one pass after another into the array's shadow tile.

    A tile takes `rows` cycles; the next one starts in the cycle after `take`, so passes of `rows`
    pixels or more never wait. With narrow weights a word of the buffer is read for two rows, one
    after the other, and its low or high halves are extended to bytes.

    Parameters
    ----------
    config : AcceleratorConfig
    delay : int
        Cycles from the request of a word to its swap beyond FEATURE_READ_LATENCY: reading weights
        is put off by as many.

    Members
    -------
    instruction : In(stream)   decoded Matrix
    ready : Out   the shadow tile is complete in time for a word requested in the next cycle
    take : In   a word that will swap the tiles is requested now; only after a cycle with `ready`
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

    def __init__(self, *, config: AcceleratorConfig, delay: int = 0) -> None:
        self._config = config
        self._delay = delay
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
        address = Signal.like(self.address, name="next_address")
        kernel_x, kernel_y, group = Signal(8), Signal(8), Signal(12)
        last_row = Signal()
        # These stand still during a pass and are used with its last row alone.
        last_x, last_y, last_group, last_pass = Signal(), Signal(), Signal(), Signal()
        assert rows >= 4
        m.d.comb += last_row.eq(row == rows - 1)
        m.d.sync += [
            last_x.eq(kernel_x == current.kernel_width - 1),
            last_y.eq(kernel_y == current.kernel_height - 1),
            last_group.eq(group == current.groups - 1),
            last_pass.eq(last_x & last_y & last_group),
        ]
        # High from the last row's read but one: the word's swap comes FEATURE_READ_LATENCY cycles
        # after its request, the last row's write one cycle after its read, both put off alike.
        assert FEATURE_READ_LATENCY >= 2
        with m.If(self.take):
            m.d.sync += self.ready.eq(0)
        with m.Elif(loading & (row == rows - 3)):
            m.d.sync += self.ready.eq(1)
        write = delayed(m, loading, 1, "write")
        write_row = delayed(m, row, 1, "write_row")

        # Of what the buffer returns now. Each bit of a weight is a function of at most five.
        narrow, upper = Signal(), Signal()
        m.d.sync += [narrow.eq(current.narrow_weights), upper.eq(current.narrow_weights & row[0])]
        m.d.comb += [
            self.read_enable.eq(delayed(m, loading, self._delay, "read")),
            self.address.eq(delayed(m, address, self._delay, "address", reset_less=True)),
            self.write.eq(delayed(m, write, self._delay, "late_write")),
            self.row.eq(delayed(m, write_row, self._delay, "late_row", reset_less=True)),
        ]
        narrow = delayed(m, narrow, self._delay, "narrow", reset_less=True)
        upper = delayed(m, upper, self._delay, "upper", reset_less=True)
        for found, weight in zip(self.data, self.weights, strict=True):
            half = Mux(upper, found[4:], found[:4])
            m.d.comb += weight.eq(Cat(half, Mux(narrow, half[3].replicate(4), found[4:])))

        with m.If(loading):
            m.d.sync += [address.eq(address + (row[0] | ~current.narrow_weights)),
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
            m.d.sync += [current.eq(new), remaining.eq(1), address.eq(new.weights),
                         group.eq(0), kernel_y.eq(0), kernel_x.eq(0)]
        return m


class MatrixUnit(wiring.Component):
    """Executes Matrix instructions, one word a cycle, without a bubble between passes or tiles.

    Latency from the acceptance of a feature word to its accumulation: FEATURE_READ_LATENCY + 2
    cycles and the array's. The request is a register, so that no path from the walker reaches what
    shares the buffer. A pass takes max(pixels, rows) cycles, plus one for each bank conflict; an
    instruction with `accumulate` starts two cycles later.

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
        m.submodules.sampler = sampler = Sampler(config=config)
        # Words take `sampling` cycles from the request to the array; weights wait for them.
        interpolates = config.offset_depth > 0
        sampling = FEATURE_READ_LATENCY + (INTERPOLATOR_LATENCY if interpolates else 0)
        m.submodules.loader = loader = WeightLoader(
            config=config, delay=sampling - FEATURE_READ_LATENCY)
        m.submodules.array = array = self._array
        m.submodules.accepted = instruction = StreamRegister(instruction_layout(Matrix))
        wiring.connect(m, wiring.flipped(self.instruction), instruction.input)

        # An instruction goes to the sampler and, through a queue, to the weight loader, which takes
        # it a tile before its first word; the sampler begins earlier, by its pipeline's length.
        m.submodules.to_load = to_load = StreamBuffer(instruction_layout(Matrix))
        wiring.connect(m, to_load.output, loader.instruction)
        offered, new = instruction.output, instruction.output.payload
        m.d.comb += [
            to_load.input.payload.eq(new),
            to_load.input.valid.eq(offered.valid & sampler.instruction.ready),
            sampler.instruction.payload.eq(new),
            sampler.instruction.valid.eq(offered.valid & to_load.input.ready),
            offered.ready.eq(to_load.input.ready & sampler.instruction.ready),
        ]

        # Issue: a position becomes the request when its weights are there and the one before goes.
        # A partial sum can be read again ACCUMULATE_DISTANCE cycles later. That takes care where
        # an entry may come back sooner: after a pass of two pixels that a bank conflict stretched
        # (one of a single pixel still waits for weights), and where an accumulating instruction
        # starts.
        position = sampler.sample.payload
        valid = sampler.sample.valid
        request: Any = Signal(position.shape(), reset_less=True)
        request_valid = Signal()
        asking = Signal()  # the buffer is needed for it: not in padding
        requested = Signal()  # the buffer takes the request, or padding needs none
        weights_ready = Signal()
        issue = Signal()
        words = Signal(range(ACCUMULATE_DISTANCE + 1))  # of this pass; saturates
        recent = Signal(ACCUMULATE_DISTANCE - 2)  # cycles before this one with a word requested
        hold = Signal()
        m.d.sync += recent.eq(Cat(requested, recent))
        with m.If(issue):
            m.d.sync += words.eq(Mux(position.inner_first, 1, Mux(
                words == ACCUMULATE_DISTANCE, ACCUMULATE_DISTANCE, words + 1)))
        with m.If(requested | ~request_valid):
            m.d.sync += [
                request_valid.eq(valid & weights_ready), request.eq(position),
                asking.eq(valid & weights_ready & position.need.any()),
            ]
        m.d.comb += [
            hold.eq((request_valid | recent.any()) & Mux(
                position.first, position.tag.accumulate, words < ACCUMULATE_DISTANCE)),
            weights_ready.eq(~position.inner_first | (
                loader.ready & ~(request_valid & request.inner_first) & ~hold)),
            issue.eq(valid & weights_ready & (requested | ~request_valid)),
            sampler.sample.ready.eq(issue),
            self.feature.valid.eq(asking | sampler.offsets.valid),
            self.feature.mask.eq(Mux(asking, request.need, sampler.offsets.mask)),
            sampler.offsets.ready.eq(self.feature.ready & ~asking),
            sampler.offsets.data.eq(self.feature.data),
            requested.eq(request_valid & (~asking | self.feature.ready)),
            loader.take.eq(requested & request.inner_first),
            self.active.eq(requested),
            self.wait_weights.eq(valid & ~weights_ready),
            self.wait_bank.eq(asking & ~self.feature.ready),
        ]
        m.d.comb += [self.feature.address[bank].eq(
            Mux(asking, request.address[bank], sampler.offsets.address[bank]))
            for bank in range(FEATURE_BANKS)]

        # What must be known of a word later on travels beside it. Only the valid bits have a reset:
        # the rest can become shift registers made of LUTs, which have none.
        stages = sampling + array.latency - 1
        valids = Signal(stages)
        m.d.sync += valids.eq(Cat(requested, valids))
        positions: list[Any] = [request]
        for stage in range(stages):
            later: Any = Signal(position.shape(), name=f"position_{stage}", reset_less=True)
            m.d.sync += later.eq(positions[-1])
            positions.append(later)

        m.d.comb += [
            array.valid.eq(valids[sampling - 1]),
            array.swap.eq(positions[sampling].inner_first),
            self.weight_enable.eq(loader.read_enable),
            self.weight_address.eq(loader.address),
            loader.data.eq(self.weight_data),
            array.weight_write.eq(loader.write),
            array.weight_row.eq(loader.row),
            array.weight_data.eq(loader.weights),
            self.sums.eq(array.sums),
        ]

        arrived = positions[FEATURE_READ_LATENCY]
        lanes = data.ArrayLayout(signed(8), config.lanes)
        neighbours: list[Any] = []
        for neighbour in range(NEIGHBOURS if interpolates else 1):
            word: Any = Signal(lanes, name=f"word_{neighbour}")
            m.d.comb += word.as_value().eq(Mux(
                arrived.inside[neighbour], self.feature.data[arrived.bank ^ neighbour],
                arrived.tag.pad_value.replicate(config.lanes)))
            neighbours.append(word)
        if interpolates:
            m.submodules.interpolator = interpolator = Interpolator(config=config)
            m.d.comb += [
                interpolator.valid.eq(valids[FEATURE_READ_LATENCY - 1]),
                *(to.eq(word) for to, word in zip(interpolator.words, neighbours, strict=True)),
                interpolator.displaced.eq(arrived.displaced),
                interpolator.fraction_y.eq(arrived.fraction_y),
                interpolator.fraction_x.eq(arrived.fraction_x),
                interpolator.factor.eq(arrived.factor),
                interpolator.zero_point.eq(arrived.tag.pad_value),
                array.word.eq(interpolator.word),
            ]
        else:
            m.d.comb += array.word.eq(neighbours[0])

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
        in_flight = Signal(range(32))
        accepted = Signal()
        m.d.comb += accepted.eq(self.instruction.valid & self.instruction.ready)
        m.d.sync += [
            finished.eq((finished << 1) | (leaving_valid & leaving.last)),
            in_flight.eq(in_flight + accepted - self.done),
        ]
        m.d.comb += [self.done.eq(finished[1]), self.busy.eq(in_flight != 0)]
        return m
