"""AXI4 and AXI4-Lite channels as streams (Arm IHI 0022E), and the arbiter of the read masters."""

from __future__ import annotations

import enum
from typing import Any

from amaranth import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.registers import REGISTER_SPACE_BYTES
from pliant_hw.streams import StreamBuffer

FETCH_ID = 0
LOAD_ID = 1
WRITE_ID = 0
ID_BITS = 1

BURST_INCR = 1
"""Value of AxBURST: every burst counts up."""

PROT_UNPRIVILEGED_NONSECURE = 0b010
"""Value of AxPROT: unprivileged, non-secure, data."""

CACHE_MODIFIABLE_BUFFERABLE = 0b0011
"""Value of AxCACHE: normal, non-cacheable, bufferable."""

LITE_ADDRESS_BITS = (REGISTER_SPACE_BYTES - 1).bit_length()


class Response(enum.IntEnum):
    """Values of RRESP and BRESP; bit 1 marks an error."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def burst_size(data_bytes: int) -> int:
    """Return AxSIZE of a full-width beat: log2 of its bytes."""
    return data_bytes.bit_length() - 1


def address_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the payload of AR and AW; `len` is the number of beats less one."""
    return data.StructLayout({
        "id": unsigned(ID_BITS),
        "addr": unsigned(config.axi_address_bits),
        "len": unsigned(8),
    })


def read_data_layout(data_bytes: int) -> data.StructLayout:
    """Return the payload of R on a bus of `data_bytes`."""
    return data.StructLayout({
        "id": unsigned(ID_BITS),
        "data": unsigned(8 * data_bytes),
        "resp": unsigned(2),
        "last": unsigned(1),
    })


def write_data_layout(data_bytes: int) -> data.StructLayout:
    """Return the payload of W on a bus of `data_bytes`."""
    return data.StructLayout({
        "data": unsigned(8 * data_bytes),
        "strb": unsigned(data_bytes),
        "last": unsigned(1),
    })


WRITE_RESPONSE = data.StructLayout({"id": unsigned(ID_BITS), "resp": unsigned(2)})
"""The payload of B."""


class AxiReadSignature(wiring.Signature):
    """The read channels of an AXI4 master: `ar` out, `r` in.

    `data_bytes` is the width of the bus, the core's own if it is not given.
    """

    def __init__(self, config: AcceleratorConfig, data_bytes: int | None = None) -> None:
        super().__init__({
            "ar": Out(stream.Signature(address_layout(config))),
            "r": In(stream.Signature(read_data_layout(data_bytes or config.axi_data_bytes))),
        })


class AxiWriteSignature(wiring.Signature):
    """The write channels of an AXI4 master: `aw` and `w` out, `b` in.

    `data_bytes` is the width of the bus, the core's own if it is not given.
    """

    def __init__(self, config: AcceleratorConfig, data_bytes: int | None = None) -> None:
        super().__init__({
            "aw": Out(stream.Signature(address_layout(config))),
            "w": Out(stream.Signature(write_data_layout(data_bytes or config.axi_data_bytes))),
            "b": In(stream.Signature(WRITE_RESPONSE)),
        })


class AxiLiteSignature(wiring.Signature):
    """The five channels of an AXI4-Lite master with 32-bit data and 12-bit addresses.

    Payloads: `aw`, `ar` {addr}, `w` {data, strb}, `b` {resp}, `r` {data, resp}.
    """

    def __init__(self) -> None:
        address = data.StructLayout({"addr": unsigned(LITE_ADDRESS_BITS)})
        super().__init__({
            "aw": Out(stream.Signature(address)),
            "w": Out(stream.Signature(data.StructLayout({
                "data": unsigned(32), "strb": unsigned(4),
            }))),
            "b": In(stream.Signature(data.StructLayout({"resp": unsigned(2)}))),
            "ar": Out(stream.Signature(address)),
            "r": In(stream.Signature(data.StructLayout({
                "data": unsigned(32), "resp": unsigned(2),
            }))),
        })


class ReadArbiter(wiring.Component):
    """Joins the read channels of fetch and load; answers return by id, in any order between ids.

    Fetch goes first: it asks for a few beats at a time, and only for those it has room for, so it
    can neither starve load nor block its data. AR takes one cycle more; R takes none.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    fetch, load : In(AxiReadSignature)   masters with ids FETCH_ID and LOAD_ID
    bus : Out(AxiReadSignature)
    """

    fetch: Any
    load: Any
    bus: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "fetch": In(AxiReadSignature(config)),
            "load": In(AxiReadSignature(config)),
            "bus": Out(AxiReadSignature(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The choice may change until the buffer has taken it; what the bus sees may not.
        m.submodules.chosen = chosen = StreamBuffer(address_layout(self._config))
        wiring.connect(m, chosen.output, wiring.flipped(self.bus.ar))
        m.d.comb += chosen.input.valid.eq(self.fetch.ar.valid | self.load.ar.valid)
        with m.If(self.fetch.ar.valid):
            m.d.comb += [
                chosen.input.payload.eq(self.fetch.ar.payload),
                self.fetch.ar.ready.eq(chosen.input.ready),
            ]
        with m.Else():
            m.d.comb += [
                chosen.input.payload.eq(self.load.ar.payload),
                self.load.ar.ready.eq(chosen.input.ready),
            ]

        answer = self.bus.r
        m.d.comb += [
            self.fetch.r.payload.eq(answer.payload),
            self.load.r.payload.eq(answer.payload),
        ]
        with m.If(answer.payload.id == FETCH_ID):
            m.d.comb += [
                self.fetch.r.valid.eq(answer.valid), answer.ready.eq(self.fetch.r.ready),
            ]
        with m.Else():
            m.d.comb += [
                self.load.r.valid.eq(answer.valid), answer.ready.eq(self.load.r.ready),
            ]
        return m
