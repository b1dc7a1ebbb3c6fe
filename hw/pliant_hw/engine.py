"""The engine: fetch, dispatcher, four units and their buffers, joined."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Unit
from pliant.spec.registers import COUNTERS, SEGMENTS
from pliant_hw.accumulators import Accumulators
from pliant_hw.array import ArrayFactory, MatrixArray
from pliant_hw.axi import AxiReadSignature, AxiWriteSignature, ReadArbiter
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.dispatch import Dispatcher
from pliant_hw.dma import WINDOW_BITS
from pliant_hw.feature_buffer import FeatureBuffer
from pliant_hw.fetch import LENGTH_BITS, FetchUnit
from pliant_hw.layouts import INDEX_BITS, FaultReport
from pliant_hw.load import LoadUnit
from pliant_hw.matrix import MatrixUnit
from pliant_hw.post import PostProcessor
from pliant_hw.store import StoreUnit

UNITS = tuple(unit.name.lower() for unit in Unit)

FAULT_SOURCES = ("load", "store", "fetch", "dispatch")
"""Units that report faults, in the order in which simultaneous ones count."""


class Engine(wiring.Component):
    """All that runs a program: everything but the register file, the counters and the control.

    Parameters
    ----------
    config : AcceleratorConfig
    array : ArrayFactory
        Which of the matrix arrays to use.

    Members
    -------
    start : In   pulse: begin to fetch at `program_base`
    program_base, program_length, window_base, window_limit, segment_base : In
    halt : In   start no burst, hand out no instruction
    bus_idle : Out   no burst is outstanding
    end : Out   pulse: the program is completed
    index : Out   instruction decoded last
    fault_<name> : Out(FaultReport)   for the names in FAULT_SOURCES
    read, write : Out   AXI4 channels
    events : Out   one bit for each of COUNTERS
    trace_start, trace_done : Out   one bit for each Unit
    """

    start: Signal
    program_base: Signal
    program_length: Signal
    window_base: Signal
    window_limit: Signal
    segment_base: Any
    halt: Signal
    bus_idle: Signal
    end: Signal
    index: Signal
    read: Any
    write: Any
    events: Signal
    trace_start: Signal
    trace_done: Signal

    def __init__(
        self, *, config: AcceleratorConfig, array: ArrayFactory = MatrixArray
    ) -> None:
        self._config = config
        self._array = array
        super().__init__({
            "start": In(1),
            "program_base": In(config.axi_address_bits),
            "program_length": In(LENGTH_BITS),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "segment_base": In(data.ArrayLayout(unsigned(config.axi_address_bits), SEGMENTS)),
            "halt": In(1),
            "bus_idle": Out(1),
            "end": Out(1),
            "index": Out(INDEX_BITS),
            **{f"fault_{name}": Out(FaultReport(config)) for name in FAULT_SOURCES},
            "read": Out(AxiReadSignature(config)),
            "write": Out(AxiWriteSignature(config)),
            "events": Out(len(COUNTERS)),
            "trace_start": Out(len(Unit)),
            "trace_done": Out(len(Unit)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        fetch = FetchUnit(config=config)
        dispatch: Any = Dispatcher(config=config)  # members by unit
        load = LoadUnit(config=config)
        matrix = MatrixUnit(config=config, array=self._array)
        post = PostProcessor(config=config)
        store = StoreUnit(config=config)
        arbiter = ReadArbiter(config=config)
        windows = [f"window_{bank}" for bank in range(FEATURE_BANKS)]
        # Windows ask bank by bank and in advance; what reads words of its own accord, a beat or a
        # residual word at a time, does so by the write port. A residual word that waits holds up
        # its pixel.
        features: Any = FeatureBuffer(  # members by client
            config=config,
            readers=("sampler", *windows),
            writers=("post", "load"),
            write_port_readers=("residual", "store"),
        )
        weights = BeatMemory(config=config, word_bytes=config.cols, depth=config.weight_depth)
        accumulators = Accumulators(config=config)
        m.submodules.fetch = fetch
        m.submodules.dispatch = dispatch
        m.submodules.load = load
        m.submodules.matrix = matrix
        m.submodules.post = post
        m.submodules.store = store
        m.submodules.arbiter = arbiter
        m.submodules.features = features
        m.submodules.weights = weights
        m.submodules.accumulators = accumulators

        # Instructions.
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.program_base.eq(self.program_base),
            fetch.program_length.eq(self.program_length),
            fetch.stop.eq(dispatch.end_seen),
            dispatch.exhausted.eq(fetch.exhausted),
            dispatch.halt.eq(self.halt),
            self.end.eq(dispatch.end),
            self.index.eq(dispatch.index),
        ]
        wiring.connect(m, fetch.program, dispatch.program)
        for name, unit in (("load", load), ("matrix", matrix), ("post", post), ("store", store)):
            wiring.connect(m, getattr(dispatch, f"{name}_instruction"), unit.instruction)
            m.d.comb += getattr(dispatch, f"{name}_done").eq(unit.done)
        m.d.comb += [
            self.trace_start.eq(Cat(getattr(dispatch, f"{unit}_start") for unit in UNITS)),
            self.trace_done.eq(Cat(load.done, matrix.done, post.done, store.done)),
        ]

        # Buffers.
        readers = {"sampler": matrix.feature, "residual": post.residual, "store": store.feature}
        readers |= {name: getattr(post, name) for name in windows}
        for name, port in readers.items():
            wiring.connect(m, port, getattr(features, f"read_{name}"))
        wiring.connect(m, post.output, features.write_post)
        wiring.connect(m, load.feature, features.write_load)
        wiring.connect(m, load.weights, weights.write)
        wiring.connect(m, load.parameters, post.parameters)
        wiring.connect(m, load.table, post.table)
        wiring.connect(m, load.taps, post.taps)
        m.d.comb += [
            weights.read_enable.eq(matrix.weight_enable),
            weights.address.eq(matrix.weight_address),
            matrix.weight_data.eq(weights.data),
        ]
        m.d.comb += [
            getattr(accumulators, name).eq(getattr(matrix, name))
            for name in ("add_valid", "add_bank", "add_entry", "add_overwrite", "sums")
        ]
        m.d.comb += [
            getattr(accumulators, name).eq(getattr(post, name))
            for name in ("read_valid", "read_bank", "read_entry", "read_group")
        ]
        m.d.comb += post.read_values.eq(accumulators.values)

        # Memory.
        wiring.connect(m, fetch.axi, arbiter.fetch)
        wiring.connect(m, load.axi, arbiter.load)
        wiring.connect(m, arbiter.bus, wiring.flipped(self.read))
        wiring.connect(m, store.axi, wiring.flipped(self.write))
        for master in (fetch, load, store):
            m.d.comb += [
                master.halt.eq(self.halt),
                master.window_base.eq(self.window_base),
                master.window_limit.eq(self.window_limit),
            ]
        m.d.comb += [
            load.segment_base.eq(self.segment_base),
            store.segment_base.eq(self.segment_base),
            self.bus_idle.eq(fetch.idle & load.idle & store.idle & ~self.read.ar.valid),
        ]
        reporters = {"load": load, "store": store, "fetch": fetch, "dispatch": dispatch}
        for name in FAULT_SOURCES:
            wiring.connect(m, reporters[name].fault, wiring.flipped(getattr(self, f"fault_{name}")))

        # Events that come late in their cycle are counted in the next.
        load_wait_memory, post_wait_bank = Signal(), Signal()
        m.d.sync += [load_wait_memory.eq(load.wait_memory), post_wait_bank.eq(post.wait_bank)]
        events = {
            "cycles": Const(1),
            "load_busy": load.busy,
            "load_wait_token": dispatch.load_wait_token,
            "load_wait_memory": load_wait_memory,
            "load_wait_bank": load.wait_bank,
            "matrix_busy": matrix.busy,
            "matrix_active": matrix.active,
            "matrix_wait_token": dispatch.matrix_wait_token,
            "matrix_wait_weights": matrix.wait_weights,
            "matrix_wait_bank": matrix.wait_bank,
            "post_busy": post.busy,
            "post_active": post.active,
            "post_wait_token": dispatch.post_wait_token,
            "post_wait_bank": post_wait_bank,
            "store_busy": store.busy,
            "store_wait_token": dispatch.store_wait_token,
            "store_wait_memory": store.wait_memory,
            "store_wait_bank": store.wait_bank,
            "read_beats": self.read.r.valid & self.read.r.ready,
            "write_beats": self.write.w.valid & self.write.w.ready,
        }
        m.d.comb += self.events.eq(Cat(events[name] for name, _ in COUNTERS))
        return m
