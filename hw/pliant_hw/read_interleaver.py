"""Reads over several memory ports: each burst at one, many in flight, data in order."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.axi import ID_BITS, AxiReadSignature, address_layout, read_data_layout
from pliant_hw.memory_ports import MemoryPorts, port_of, widened
from pliant_hw.streams import StreamBuffer, StreamQueue

BUFFER_CYCLES = 256
"""Cycles of a port's data that its buffer holds.

A burst has its room from AR on until its data have left. For data without a gap that is the
memory's latency, the time that the burst takes at the port, the time that the bursts of the other
ports take to leave before it, and a few cycles here: with 4 ports of 16 bytes, lines of 1 KiB and a
latency of up to 140 cycles that is 256.
"""


def wide_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a beat of the core and its RRESP."""
    return data.StructLayout({"data": unsigned(8 * config.axi_data_bytes), "resp": unsigned(2)})


class ReadPort(wiring.Component):
    """One port: asks for a burst when there is room for all its data, and joins them to wide beats.

    RREADY is always high, so that no port ever waits for another, whatever the interconnect behind
    them shares. One beat of the port a cycle; 2 cycles from `bursts` to ARVALID, 1 from the last
    part of a beat to `beats`.

    Parameters
    ----------
    config : AcceleratorConfig
    ports : MemoryPorts

    Members
    -------
    bursts : In(stream(address_layout))   beats of the core, aligned, within a line
    beats : Out(stream(wide_layout))   `resp` is the or of its parts, so that no error bit is lost
    axi : Out(AxiReadSignature)   as wide as the port; all bursts have id 0
    """

    bursts: Any
    beats: Any
    axi: Any

    def __init__(self, *, config: AcceleratorConfig, ports: MemoryPorts) -> None:
        self._config = config
        self._ports = ports
        ratio = ports.ratio(config)
        self.depth = max(BUFFER_CYCLES // ratio, config.axi_burst_beats)
        super().__init__({
            "bursts": In(stream.Signature(address_layout(config))),
            "beats": Out(stream.Signature(wide_layout(config))),
            "axi": Out(AxiReadSignature(config, ports.data_bytes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, ratio = self._config, self._ports.ratio(self._config)
        ar, r = self.axi.ar, self.axi.r
        m.submodules.waiting = waiting = StreamQueue(
            address_layout(config), depth=config.axi_outstanding)
        m.submodules.buffer = buffer = StreamQueue(wide_layout(config), depth=self.depth)
        wiring.connect(m, wiring.flipped(self.bursts), waiting.input)
        wiring.connect(m, buffer.output, wiring.flipped(self.beats))

        burst = waiting.output.payload
        unclaimed = Signal(range(self.depth + 1), init=self.depth)
        issue = Signal()
        m.d.comb += [
            waiting.output.ready.eq((unclaimed > burst.len) & (~ar.valid | ar.ready)),
            issue.eq(waiting.output.valid & waiting.output.ready),
        ]
        m.d.sync += unclaimed.eq(
            unclaimed - Mux(issue, burst.len + 1, 0) + (self.beats.valid & self.beats.ready))
        with m.If(ar.ready):
            m.d.sync += ar.valid.eq(0)
        with m.If(issue):
            m.d.sync += [
                ar.valid.eq(1),
                ar.payload.addr.eq(burst.addr),
                ar.payload.len.eq(widened(config, self._ports, burst.len)),
            ]

        # The parts of a beat before its last one: the newest on top.
        part_bits = 8 * self._ports.data_bytes
        earlier = Signal(part_bits * (ratio - 1))
        errors = Signal(2)
        part = Signal(max(1, (ratio - 1).bit_length()))
        complete = part == ratio - 1
        m.d.comb += [
            r.ready.eq(1),
            buffer.input.valid.eq(r.valid & complete),
            buffer.input.payload.data.eq(Cat(earlier, r.payload.data)),
            buffer.input.payload.resp.eq(errors | r.payload.resp),
        ]
        with m.If(r.valid):
            m.d.sync += [
                earlier.eq(Cat(earlier, r.payload.data)[part_bits:]),
                errors.eq(Mux(complete, 0, errors | r.payload.resp)),
                part.eq(Mux(complete, 0, part + 1)),
            ]
        return m


class ReadInterleaver(wiring.Component):
    """Spreads the bursts of a master over ports by address and returns their data in its order.

    One burst and one beat a cycle. 2 cycles from AR to ARVALID at a port, 2 from the last part of
    a beat to RVALID. Reads of all ids are answered in the order in which they were asked for.

    Parameters
    ----------
    config : AcceleratorConfig
    ports : MemoryPorts

    Members
    -------
    core : In(AxiReadSignature)   bursts of whole beats, aligned, within a line
    ports : Out(AxiReadSignature) for each port
    """

    core: Any
    ports: Any

    def __init__(self, *, config: AcceleratorConfig, ports: MemoryPorts) -> None:
        ports.ratio(config)  # refuses what does not fit
        self._config = config
        self._ports = ports
        super().__init__({
            "core": In(AxiReadSignature(config)),
            "ports": Out(AxiReadSignature(config, ports.data_bytes)).array(ports.count),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        ar = self.core.ar
        readers = [ReadPort(config=config, ports=self._ports) for _ in range(self._ports.count)]
        for index, reader in enumerate(readers):
            m.submodules[f"port_{index}"] = reader
            wiring.connect(m, reader.axi, wiring.flipped(self.ports[index]))

        # Fetch and load may both have all their bursts in flight.
        place = data.StructLayout({
            "port": unsigned(self._ports.index_bits), "id": unsigned(ID_BITS), "len": unsigned(8)})
        m.submodules.order = order = StreamQueue(place, depth=2 * config.axi_outstanding)
        m.submodules.current = current = StreamBuffer(place)
        wiring.connect(m, order.output, current.input)
        chosen = Signal(self._ports.index_bits)
        room = Signal()
        m.d.comb += [
            chosen.eq(port_of(config, self._ports, ar.payload.addr)),
            ar.ready.eq(room & order.input.ready),
            order.input.valid.eq(ar.valid & room),
            order.input.payload.port.eq(chosen),
            order.input.payload.id.eq(ar.payload.id),
            order.input.payload.len.eq(ar.payload.len),
        ]
        for index, reader in enumerate(readers):
            m.d.comb += reader.bursts.payload.eq(ar.payload)
            with m.If(chosen == index):
                m.d.comb += [
                    room.eq(reader.bursts.ready),
                    reader.bursts.valid.eq(ar.valid & order.input.ready),
                ]

        m.submodules.answer = answer = StreamBuffer(read_data_layout(config.axi_data_bytes))
        wiring.connect(m, answer.output, wiring.flipped(self.core.r))
        burst = current.output.payload
        count = Signal(8)
        last = count == burst.len
        moves = answer.input.valid & answer.input.ready
        m.d.comb += [
            answer.input.payload.id.eq(burst.id),
            answer.input.payload.last.eq(last),
            current.output.ready.eq(moves & last),
        ]
        for index, reader in enumerate(readers):
            with m.If(burst.port == index):
                m.d.comb += [
                    answer.input.valid.eq(current.output.valid & reader.beats.valid),
                    answer.input.payload.data.eq(reader.beats.payload.data),
                    answer.input.payload.resp.eq(reader.beats.payload.resp),
                    reader.beats.ready.eq(current.output.valid & answer.input.ready),
                ]
        with m.If(moves):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        return m
