"""The boards a core is built for, and what their block designs have in common.

The build writes these names and addresses into the design, the driver finds the core by them, and
the virtual board describes itself with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pliant.spec.config import PRESETS, AcceleratorConfig

DESIGN = "pliant"
"""Name of the block design, and so the stem of the files that are made of it."""

CORE_VLNV = "pliant:ip:pliant_core:1.0"
"""Vendor, library, name and version of the packaged core; a driver binds to it."""

CORE_INSTANCE = "pliant_core_0"
"""Name of the core in a block design, and so its attribute of an overlay."""

INTERRUPT_CONTROLLER = "axi_intc_0"
"""Name of the interrupt controller between the core and the processing system."""

SIMULATED_RATE_FILE = "/proc/pliant/cycles_per_second"
"""Exists on virtual boards alone: cycles of the core that they simulate in a second at least."""

INTERRUPT_SPACE_BYTES = 1 << 16
"""Address range of the interrupt controller."""

Family = Literal["zynq", "zynqmp"]


class PlatformError(ValueError):
    """No such board; the message lists those there are."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One board.

    Attributes
    ----------
    name : str
        As given to ``pliant build --board``.
    config_name : str
        Preset that is built for it.
    part : str
        The device, as Vivado spells it.
    family : "zynq" or "zynqmp"
        Zynq-7000 or Zynq UltraScale+.
    memory_ports : int
        High-performance ports of the processing system that the core's memory accesses are spread
        over: 1, 2 or 4. Programs do not depend on it.
    core_address, interrupt_address : int
        Where the processing system sees the core's registers and the interrupt controller's.
    legacy : bool
        Whether current releases of PYNQ have left the board behind.
    """

    name: str
    config_name: str
    part: str
    family: Family
    memory_ports: int
    legacy: bool = False

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration that is built for the board."""
        return PRESETS[self.config_name]

    @property
    def core_address(self) -> int:
        """Address of the core's registers, 4 KiB, in reach of a general-purpose master port."""
        return 0x4000_0000 if self.family == "zynq" else 0xA000_0000

    @property
    def interrupt_address(self) -> int:
        """Address of the interrupt controller's registers, INTERRUPT_SPACE_BYTES."""
        return self.core_address + 0x10000


PLATFORMS: dict[str, Platform] = {
    platform.name: platform
    for platform in (
        Platform(name="ultra96", config_name="ultra96", part="xczu3eg-sbva484-1-i",
                 family="zynqmp", memory_ports=1),
        Platform(name="aup_zu3", config_name="ultra96", part="xczu3eg-sfvc784-2-e",
                 family="zynqmp", memory_ports=2),
        Platform(name="kv260", config_name="kv260", part="xck26-sfvc784-2LV-c", family="zynqmp",
                 memory_ports=4),
        Platform(name="zcu104", config_name="kv260", part="xczu7ev-ffvc1156-2-e",
                 family="zynqmp", memory_ports=4),
        Platform(name="pynq_z2", config_name="pynq_z2", part="xc7z020clg400-1", family="zynq",
                 memory_ports=2, legacy=True),
    )
}


def platform(name: str) -> Platform:
    """Return the board called `name`; PlatformError with the known names otherwise."""
    try:
        return PLATFORMS[name]
    except KeyError:
        known = ", ".join(PLATFORMS)
        raise PlatformError(f"no board is called {name!r}; known: {known}") from None


def platforms_of(config: AcceleratorConfig) -> list[Platform]:
    """Return the boards that a configuration is built for, by its name."""
    return [item for item in PLATFORMS.values() if item.config_name == config.name]
