"""The ports of the core and the buses they form, for tools that cannot read Amaranth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amaranth.hdl import Shape
from amaranth.lib import wiring

from pliant.spec.config import AcceleratorConfig
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.top import SLAVE, pins

MODULE = "pliant_core"
"""Name of the core's module, and of the packaged core."""

CLOCK, RESET, INTERRUPT = "clk", "rst", "irq"
"""The pins that are no bus; the reset is active high."""

INTERRUPT_SENSITIVITY = "EDGE_RISING"
"""What is to be seen of the interrupt, as Vivado spells it. It stays high until the next start or a
reset, so a controller that looked at the level would report each twice: PYNQ acknowledges before
the driver could make it fall."""

CONTROL = SLAVE
"""Prefix of the pins of the AXI4-Lite slave, and name of that bus."""

LEFT_OPEN = ("trace_start", "trace_done")
"""Pins that a block design connects to nothing: simulators look at them."""


@dataclass(frozen=True)
class Port:
    """One port of the core: its name in the Verilog, which way it goes, and its bits."""

    name: str
    direction: Literal["in", "out"]
    width: int


def core_ports(config: AcceleratorConfig, ports: MemoryPorts | None = None) -> tuple[Port, ...]:
    """Return all ports of the core, the clock and the reset first."""
    return (Port(CLOCK, "in", 1), Port(RESET, "in", 1), *(
        Port(name, "in" if member.flow == wiring.In else "out", Shape.cast(member.shape).width)
        for name, member in pins(config, ports).items()))


def bus_pins(
    config: AcceleratorConfig, prefix: str, ports: MemoryPorts | None = None
) -> dict[str, str]:
    """Return the pins of a bus by their names in the AXI standard, such as ``ARADDR``."""
    start = f"{prefix}_"
    return {port.name.removeprefix(start).upper(): port.name
            for port in core_ports(config, ports) if port.name.startswith(start)}
