"""Ways to decouple a stream: a register, a two-place buffer and a queue."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Shape, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class StreamRegister(wiring.Component):
    """Registers a stream in both directions; latency 1, one item in two cycles, one place.

    Parameters
    ----------
    shape : ShapeLike

    Members
    -------
    input : In(stream), output : Out(stream) of `shape`
    """

    input: Any
    output: Any

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({
            "input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.input.ready.eq(~self.output.valid)
        with m.If(self.input.ready):
            m.d.sync += [self.output.valid.eq(self.input.valid),
                         self.output.payload.eq(self.input.payload)]
        with m.Elif(self.output.ready):
            m.d.sync += self.output.valid.eq(0)
        return m


class StreamBuffer(wiring.Component):
    """Registers a stream in both directions; latency 1, one item a cycle, two places.

    Parameters
    ----------
    shape : ShapeLike

    Members
    -------
    input : In(stream), output : Out(stream) of `shape`
    """

    input: Any
    output: Any

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__({
            "input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spare = Signal(self._shape)
        spare_valid = Signal()
        m.d.comb += self.input.ready.eq(~spare_valid)
        with m.If(self.output.ready | ~self.output.valid):
            m.d.sync += [
                self.output.valid.eq(self.input.valid | spare_valid),
                spare_valid.eq(0),
            ]
            with m.If(spare_valid):
                m.d.sync += self.output.payload.eq(spare)
            with m.Else():
                m.d.sync += self.output.payload.eq(self.input.payload)
        with m.Elif(self.input.valid & self.input.ready):
            m.d.sync += [spare.eq(self.input.payload), spare_valid.eq(1)]
        return m


class StreamQueue(wiring.Component):
    """A first-in first-out queue of `depth` items; latency 1, one item a cycle.

    Parameters
    ----------
    shape : ShapeLike
    depth : int
        Items, at least 1.

    Members
    -------
    input : In(stream), output : Out(stream) of `shape`
    level : Out(range(depth + 1))   items held
    """

    input: Any
    output: Any
    level: Signal

    def __init__(self, shape: ShapeLike, *, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth = {depth} of a queue must be at least 1")
        self._width = Shape.cast(shape).width
        self._depth = depth
        super().__init__({
            "input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Whether it is empty or full is known with the level, not found from it.
        storage: Memory[Any, Any] = Memory(shape=self._width, depth=self._depth, init=[])
        m.submodules.storage = storage
        write, read = storage.write_port(), storage.read_port(domain="comb")
        filled, room = Signal(), Signal(init=1)
        written, taken = Signal(), Signal()
        m.d.comb += [
            self.input.ready.eq(room), self.output.valid.eq(filled),
            written.eq(self.input.valid & room), taken.eq(self.output.ready & filled),
            write.en.eq(written), write.data.eq(Value.cast(self.input.payload)),
            Value.cast(self.output.payload).eq(read.data),
        ]
        m.d.sync += [
            self.level.eq(self.level + written - taken),
            filled.eq(written | (self.level > 1) | ((self.level == 1) & ~taken)),
            room.eq(taken | (self.level < self._depth - 1)
                    | ((self.level == self._depth - 1) & ~written)),
        ]
        wraps = self._depth & (self._depth - 1) == 0
        for port, moves in ((write, written), (read, taken)):
            with m.If(moves):
                m.d.sync += port.addr.eq(port.addr + 1 if wraps else Mux(
                    port.addr == self._depth - 1, 0, port.addr + 1))
        return m
