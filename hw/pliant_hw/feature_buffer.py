"""The feature buffer: four parity banks behind a small crossbar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant_hw.layouts import FeatureReadPort, FeatureWritePort, feature_address_bits


class FeatureBuffer(wiring.Component):
    """Four banks with one read and one write port each, shared by several clients.

    A client asks for any set of banks in one cycle and is granted those that no client before it in
    the list asks for; its request is accepted when it gets them all. Latency of a read:
    FEATURE_READ_LATENCY (2). A write is visible to reads accepted in the next cycle or later.

    Parameters
    ----------
    config : AcceleratorConfig
    readers, writers : names of the clients, highest priority first

    Members
    -------
    read_<name> : In(FeatureReadPort)
    write_<name> : In(FeatureWritePort)
    """

    def __init__(
        self, *, config: AcceleratorConfig, readers: Sequence[str], writers: Sequence[str]
    ) -> None:
        self._config = config
        self._readers = tuple(readers)
        self._writers = tuple(writers)
        super().__init__({
            **{f"read_{name}": In(FeatureReadPort(config)) for name in readers},
            **{f"write_{name}": In(FeatureWritePort(config)) for name in writers},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        readers = [getattr(self, f"read_{name}") for name in self._readers]
        writers = [getattr(self, f"write_{name}") for name in self._writers]
        self._arbitrate(m, readers)
        self._arbitrate(m, writers)
        word = 8 * self._config.lanes
        address_bits = feature_address_bits(self._config)

        for bank in range(FEATURE_BANKS):
            memory: Memory[Any, Any] = Memory(shape=word, depth=self._config.feature_depth, init=[])
            m.submodules[f"bank_{bank}"] = memory
            read_port, write_port = memory.read_port(), memory.write_port()

            address = Signal(address_bits, name=f"read_address_{bank}")
            enable = Signal(name=f"read_enable_{bank}")
            chosen: Value = Const(0)
            for reader in reversed(readers):
                chosen = Mux(reader.valid & reader.mask[bank], reader.address[bank], chosen)
            m.d.sync += enable.eq(0)
            for reader in readers:
                with m.If(reader.valid & reader.mask[bank]):
                    m.d.sync += enable.eq(1)
            m.d.sync += address.eq(chosen)
            m.d.comb += [read_port.addr.eq(address), read_port.en.eq(enable)]
            for reader in readers:
                m.d.comb += reader.data[bank].eq(read_port.data)

            address = Signal(address_bits, name=f"write_address_{bank}")
            enable = Signal(name=f"write_enable_{bank}")
            value = Signal(word, name=f"write_data_{bank}", reset_less=True)
            m.d.sync += enable.eq(0)
            for writer in reversed(writers):
                with m.If(writer.valid & writer.granted[bank]):
                    m.d.sync += [enable.eq(1), address.eq(writer.address[bank]),
                                 value.eq(writer.data[bank])]
            m.d.comb += [write_port.addr.eq(address), write_port.en.eq(enable),
                         write_port.data.eq(value)]
        return m

    @staticmethod
    def _arbitrate(m: Module, ports: Sequence[Any]) -> None:
        # Each client looks at all before it at once: a chain would be as deep as the list is long.
        wanted = [[port.valid & port.mask[bank] for port in ports] for bank in range(FEATURE_BANKS)]
        for index, port in enumerate(ports):
            claimed = Cat(Cat(bank[:index]).any() for bank in wanted)
            m.d.comb += [port.granted.eq(port.mask & ~claimed),
                         port.ready.eq(~(port.mask & claimed).any())]
