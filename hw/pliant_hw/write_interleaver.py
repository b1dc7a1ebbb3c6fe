"""Writes over several memory ports: each burst at one, its data split, responses in order."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant_hw.axi import (
    ID_BITS,
    WRITE_RESPONSE,
    AxiWriteSignature,
    address_layout,
    write_data_layout,
)
from pliant_hw.memory_ports import MemoryPorts, port_of, widened
from pliant_hw.streams import StreamBuffer, StreamQueue

BUFFERED_BURSTS = 2
"""Longest bursts that wait at a port: one leaves while the next arrives."""


class WritePort(wiring.Component):
    """One port: offers a burst when all its data are here, and splits them into narrow beats.

    A port that waited for data after its AW could block another behind a shared interconnect, whose
    data the master wants to send first. BREADY is high whenever there is room, which there is for
    every burst that was accepted. One beat of the port a cycle; 2 cycles from the last of `beats`
    to AWVALID, 3 to the first WVALID.

    Parameters
    ----------
    config : AcceleratorConfig
    ports : MemoryPorts

    Members
    -------
    bursts : In(stream(address_layout))   beats of the core; at most axi_outstanding unanswered
    beats : In(stream(write_data_layout))   of these bursts, in order, not before them
    responses : Out(stream(2))   BRESP of each, in order
    axi : Out(AxiWriteSignature)   as wide as the port; all bursts have id 0
    """

    bursts: Any
    beats: Any
    responses: Any
    axi: Any

    def __init__(self, *, config: AcceleratorConfig, ports: MemoryPorts) -> None:
        self._config = config
        self._ports = ports
        self.depth = BUFFERED_BURSTS * config.axi_burst_beats
        super().__init__({
            "bursts": In(stream.Signature(address_layout(config))),
            "beats": In(stream.Signature(write_data_layout(config.axi_data_bytes))),
            "responses": Out(stream.Signature(unsigned(2))),
            "axi": Out(AxiWriteSignature(config, ports.data_bytes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, ratio = self._config, self._ports.ratio(self._config)
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        m.submodules.waiting = waiting = StreamQueue(
            address_layout(config), depth=config.axi_outstanding)
        m.submodules.buffer = buffer = StreamQueue(
            write_data_layout(config.axi_data_bytes), depth=self.depth)
        m.submodules.answered = answered = StreamQueue(unsigned(2), depth=config.axi_outstanding)
        wiring.connect(m, wiring.flipped(self.bursts), waiting.input)
        wiring.connect(m, wiring.flipped(self.beats), buffer.input)
        wiring.connect(m, answered.output, wiring.flipped(self.responses))
        m.d.comb += [
            answered.input.valid.eq(b.valid),
            answered.input.payload.eq(b.payload.resp),
            b.ready.eq(answered.input.ready),
        ]

        # Bursts whose data are all here: those to be offered, and those to be sent.
        stored = Signal(range(self.depth + 1))
        offered = Signal(range(self.depth + 1))
        issue, stores, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            stores.eq(self.beats.valid & self.beats.ready & self.beats.payload.last),
            issue.eq(waiting.output.valid & waiting.output.ready),
            waiting.output.ready.eq((stored != 0) & (~aw.valid | aw.ready)),
        ]
        m.d.sync += [
            stored.eq(stored + stores - issue),
            offered.eq(offered + issue - ends),
        ]
        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(issue):
            m.d.sync += [
                aw.valid.eq(1),
                aw.payload.addr.eq(waiting.output.payload.addr),
                aw.payload.len.eq(widened(config, self._ports, waiting.output.payload.len)),
            ]

        beat = buffer.output.payload
        part = Signal(max(1, (ratio - 1).bit_length()))
        final = part == ratio - 1
        send = buffer.output.valid & (offered != 0) & (~w.valid | w.ready)
        m.d.comb += [
            buffer.output.ready.eq(send & final),
            ends.eq(send & final & beat.last),
        ]
        with m.If(w.ready):
            m.d.sync += w.valid.eq(0)
        with m.If(send):
            m.d.sync += [
                w.valid.eq(1),
                w.payload.data.eq(beat.data.word_select(part, 8 * self._ports.data_bytes)),
                w.payload.strb.eq(beat.strb.word_select(part, self._ports.data_bytes)),
                w.payload.last.eq(final & beat.last),
                part.eq(Mux(final, 0, part + 1)),
            ]
        return m


class WriteInterleaver(wiring.Component):
    """Spreads the bursts of a master over ports by address and answers them in its order.

    One burst and one beat a cycle; 2 cycles from the last beat of a burst to its AWVALID at a port,
    3 to its first WVALID, 2 from BVALID there to BVALID here. Each burst has one response, that of
    its port.

    Parameters
    ----------
    config : AcceleratorConfig
    ports : MemoryPorts

    Members
    -------
    core : In(AxiWriteSignature)   bursts of whole beats, aligned, within a line
    ports : Out(AxiWriteSignature) for each port
    """

    core: Any
    ports: Any

    def __init__(self, *, config: AcceleratorConfig, ports: MemoryPorts) -> None:
        ports.ratio(config)  # refuses what does not fit
        self._config = config
        self._ports = ports
        super().__init__({
            "core": In(AxiWriteSignature(config)),
            "ports": Out(AxiWriteSignature(config, ports.data_bytes)).array(ports.count),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        aw, w, b = self.core.aw, self.core.w, self.core.b
        writers = [WritePort(config=config, ports=self._ports) for _ in range(self._ports.count)]
        for index, writer in enumerate(writers):
            m.submodules[f"port_{index}"] = writer
            wiring.connect(m, writer.axi, wiring.flipped(self.ports[index]))

        # Every burst waits in three queues: for its data, at its port, and for its response. The
        # last one holds all that the others hold, so room in it is room in all.
        place = data.StructLayout({
            "port": unsigned(self._ports.index_bits), "id": unsigned(ID_BITS)})
        m.submodules.order = order = StreamQueue(place, depth=config.axi_outstanding)
        m.submodules.filling = filling = StreamQueue(place, depth=config.axi_outstanding)
        m.submodules.filled = filled = StreamBuffer(place)
        wiring.connect(m, filling.output, filled.input)
        chosen = Signal(self._ports.index_bits)
        m.d.comb += [
            chosen.eq(port_of(config, self._ports, aw.payload.addr)),
            aw.ready.eq(order.input.ready),
            order.input.valid.eq(aw.valid),
            filling.input.valid.eq(aw.valid & order.input.ready),
            *(queue.input.payload[name].eq(value) for queue in (order, filling)
              for name, value in (("port", chosen), ("id", aw.payload.id))),
        ]
        m.submodules.answer = answer = StreamBuffer(WRITE_RESPONSE)
        wiring.connect(m, answer.output, wiring.flipped(b))
        burst, oldest = filled.output.payload, order.output.payload
        m.d.comb += [
            filled.output.ready.eq(w.valid & w.ready & w.payload.last),
            order.output.ready.eq(answer.input.valid & answer.input.ready),
            answer.input.payload.id.eq(oldest.id),
        ]
        for index, writer in enumerate(writers):
            m.d.comb += [
                writer.bursts.payload.eq(aw.payload),
                writer.bursts.valid.eq(aw.valid & order.input.ready & (chosen == index)),
                writer.beats.payload.eq(w.payload),
            ]
            with m.If(burst.port == index):
                m.d.comb += [
                    writer.beats.valid.eq(w.valid & filled.output.valid),
                    w.ready.eq(writer.beats.ready & filled.output.valid),
                ]
            with m.If(oldest.port == index):
                m.d.comb += [
                    answer.input.valid.eq(order.output.valid & writer.responses.valid),
                    answer.input.payload.resp.eq(writer.responses.payload),
                    writer.responses.ready.eq(order.output.valid & answer.input.ready),
                ]
        return m
