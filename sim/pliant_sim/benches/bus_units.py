"""The DMA engines and the register file behind the pins of the core, for the AXI benches."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

from amaranth import Module
from amaranth.lib import wiring

from pliant.spec.config import PRESETS
from pliant.spec.registers import FaultUnit
from pliant_hw.axi import FETCH_ID, LOAD_ID, ReadArbiter
from pliant_hw.dma import DmaReader, DmaWriter
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.registers import RegisterFile
from pliant_hw.top import PliantCore
from pliant_hw.verilog import component_to_verilog, flat_ports

TOP = "bus_units"
CONFIG = PRESETS["tiny"]


class BusUnits(PliantCore):
    """Two readers behind the arbiter, a writer and the register file, on the core's AXI pins.

    Other ports of a unit are called ``<unit>_<port>``.
    """

    def __init__(self, ports: MemoryPorts | None = None) -> None:
        super().__init__(config=CONFIG, ports=ports)
        self.units: dict[str, wiring.Component[Any]] = {
            "fetch": DmaReader(config=CONFIG, unit=FaultUnit.FETCH, axi_id=FETCH_ID),
            "load": DmaReader(config=CONFIG, unit=FaultUnit.LOAD, axi_id=LOAD_ID),
            "store": DmaWriter(config=CONFIG, unit=FaultUnit.STORE),
            "lite_registers": RegisterFile(config=CONFIG),
        }

    def elaborate(self, platform: object) -> Module:
        """Put the units behind the pins."""
        m = Module()
        units: Any = SimpleNamespace(**self.units)
        m.submodules += self.units.values()
        m.submodules.arbiter = arbiter = ReadArbiter(config=CONFIG)
        wiring.connect(m, units.fetch.axi, arbiter.fetch)
        wiring.connect(m, units.load.axi, arbiter.load)
        bus: Any = SimpleNamespace(read=arbiter.bus, write=units.store.axi)
        self._connect_memory(m, bus)
        self._connect_lite(m, units.lite_registers.axi)
        m.d.comb += self.irq.eq(units.lite_registers.irq)
        return m

    def ports(self) -> dict[str, Any]:
        """Return all ports by name, for the Verilog back end."""
        inner = {f"{unit}_{port}": value for unit, component in self.units.items()
                 for port, value in flat_ports(component).items() if not port.startswith("axi_")}
        return flat_ports(self) | inner


@functools.cache
def verilog(ports: MemoryPorts | None = None) -> str:
    """Return the design as Verilog, module TOP."""
    top = BusUnits(ports)
    return component_to_verilog(top, TOP, top.ports())
