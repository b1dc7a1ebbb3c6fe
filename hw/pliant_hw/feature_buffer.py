"""The feature buffer: four parity banks of two ports behind a small crossbar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant_hw.layouts import FeatureReadPort, FeatureWritePort


class FeatureBuffer(wiring.Component):
    """Four banks of two ports, one that reads and one that writes or reads, for several clients.

    A client asks for any set of banks in one cycle and is granted those that no client before it at
    the same port asks for; its request is accepted when it gets them all. So one client has a bank
    of a port in a cycle: the read port serves `readers`, the write port `writers` and, in cycles in
    which none of them wants the bank, `write_port_readers`. Latency of a read by either port:
    FEATURE_READ_LATENCY (2). A write is visible to reads accepted in the next cycle or later; of a
    word that is written in the same cycle a read returns anything.

    Parameters
    ----------
    config : AcceleratorConfig
    readers, writers : names of the clients, highest priority first
    write_port_readers : names of the clients that read by the write port, highest priority first

    Members
    -------
    read_<name> : In(FeatureReadPort)   for readers and write_port_readers
    write_<name> : In(FeatureWritePort)
    """

    def __init__(
        self, *, config: AcceleratorConfig, readers: Sequence[str], writers: Sequence[str],
        write_port_readers: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._readers = tuple(readers)
        self._writers = tuple(writers)
        self._write_port_readers = tuple(write_port_readers)
        super().__init__({
            **{f"read_{name}": In(FeatureReadPort(config))
               for name in (*readers, *write_port_readers)},
            **{f"write_{name}": In(FeatureWritePort(config)) for name in writers},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        readers, others = ([getattr(self, f"read_{name}") for name in names]
                           for names in (self._readers, self._write_port_readers))
        writers = [getattr(self, f"write_{name}") for name in self._writers]
        self._arbitrate(m, readers)
        self._arbitrate(m, [*writers, *others])
        word = 8 * self._config.lanes

        for bank in range(FEATURE_BANKS):
            # The attribute is Vivado's (UG901): a port that reads and writes need not keep what it
            # has read for the sake of the other one's order.
            memory: Memory[Any, Any] = Memory(
                shape=word, depth=self._config.feature_depth, init=[],
                attrs={"rw_addr_collision": "no"})
            m.submodules[f"bank_{bank}"] = memory
            port = memory.read_port()
            m.d.comb += [port.addr.eq(self._address(m, readers, bank, f"read_address_{bank}")),
                         port.en.eq(self._any(m, readers, bank, f"read_enable_{bank}"))]
            for reader in readers:
                m.d.comb += reader.data[bank].eq(port.data)

            write_port = memory.write_port()
            writes = self._any(m, writers, bank, f"write_enable_{bank}")
            address = self._address(m, [*writers, *others], bank, f"write_address_{bank}")
            value = Signal(word, name=f"write_data_{bank}", reset_less=True)
            for writer in reversed(writers):
                with m.If(writer.valid & writer.mask[bank]):
                    m.d.sync += value.eq(writer.data[bank])
            m.d.comb += [write_port.addr.eq(address), write_port.en.eq(writes),
                         write_port.data.eq(value)]
            if others:
                # Synthesis joins both to one port of the memory: the same address, and enables
                # that exclude each other, which it has to see.
                port = memory.read_port()
                reads = self._any(m, others, bank, f"other_enable_{bank}")
                m.d.comb += [port.addr.eq(address), port.en.eq(reads & ~writes)]
                for reader in others:
                    m.d.comb += reader.data[bank].eq(port.data)
        return m

    @staticmethod
    def _address(m: Module, ports: Sequence[Any], bank: int, name: str) -> Signal:
        """Return the address of the first client that asks for the bank, in the next cycle."""
        chosen: Value = Const(0)
        for port in reversed(ports):
            chosen = Mux(port.valid & port.mask[bank], port.address[bank], chosen)
        address = Signal(ports[0].address[bank].shape(), name=name)
        m.d.sync += address.eq(chosen)
        return address

    @staticmethod
    def _any(m: Module, ports: Sequence[Any], bank: int, name: str) -> Signal:
        """Return whether any client asks for the bank, in the next cycle."""
        enable = Signal(name=name)
        m.d.sync += enable.eq(Cat(port.valid & port.mask[bank] for port in ports).any())
        return enable

    @staticmethod
    def _arbitrate(m: Module, ports: Sequence[Any]) -> None:
        # Each client looks at all before it at once: a chain would be as deep as the list is long.
        wanted = [[port.valid & port.mask[bank] for port in ports] for bank in range(FEATURE_BANKS)]
        for index, port in enumerate(ports):
            claimed = Cat(Cat(bank[:index]).any() for bank in wanted)
            m.d.comb += [port.granted.eq(port.mask & ~claimed),
                         port.ready.eq(~(port.mask & claimed).any())]
