"""What a build has to know of each board beyond its entry in :mod:`pliant.spec.platform`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pliant.spec.platform import Family, Platform
from pliant_hw.memory_ports import MemoryPorts


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board.

    Attributes
    ----------
    title : str
        Maker and name.
    board_part : str
        Pattern for Vivado's name of the board file, which holds the settings of DDR and MIO.
    connections : str
        Vivado's board_connections: carrier cards; empty for none.
    vivado : str
        Version that is meant: that of the board's last PYNQ image. 3.0 is of 2022.1, 3.1 of 2024.1,
        4.0 of 2025.2.
    reference_mhz : float
        Reference clock of the processing system; Vivado takes it from the board file.
    memory : str
        The DDR memory of the processing system.
    memory_bytes_per_us : int
        Its peak: transfers per microsecond times the width of its data bus in bytes.
    """

    title: str
    board_part: str
    connections: str = ""
    vivado: str
    reference_mhz: float = 33.333
    memory: str
    memory_bytes_per_us: int


BOARDS: dict[str, Board] = {
    "ultra96": Board(
        title="Avnet Ultra96-V2", board_part="*:ultra96v2:*", vivado="2022.1",
        memory="2 GB LPDDR4-1067, 32 bits", memory_bytes_per_us=1067 * 4),
    "aup_zu3": Board(
        title="Real Digital AUP-ZU3, 8 GB", board_part="*:aup-zu3-8gb:*", vivado="2024.1",
        memory="8 GB DDR4-2400, 32 bits", memory_bytes_per_us=2400 * 4),
    "kv260": Board(
        title="AMD Kria KV260", board_part="*:kv260_som:*",
        connections="som240_1_connector xilinx.com:kv260_carrier:som240_1_connector:1.3",
        vivado="2022.1", memory="4 GB DDR4-2133, 64 bits", memory_bytes_per_us=2133 * 8),
    "zcu104": Board(
        title="AMD ZCU104", board_part="*:zcu104:*", vivado="2025.2",
        memory="2 GB DDR4-2133, 64 bits", memory_bytes_per_us=2133 * 8),
    "pynq_z2": Board(
        title="TUL PYNQ-Z2", board_part="*:pynq-z2:*", vivado="2024.1", reference_mhz=50.0,
        memory="512 MB DDR3-1050, 16 bits", memory_bytes_per_us=1050 * 2),
}
"""By the name of the platform. Widths and rates of memories are those that the block designs of the
boards' PYNQ images set."""


@dataclass(frozen=True, kw_only=True)
class MemoryPort:
    """A high-performance port of a processing system, by the names that Vivado has for it.

    Attributes
    ----------
    interface, clock : str
        The AXI slave and the pin of its clock.
    enable, width : str
        Parameters that enable it and set its width in bits.
    segments : str
        Where the address segments behind it are.
    memory : str
        What the names of those begin with that are DDR.
    handoff_width : str
        Parameter of the .hwh that tells the width; empty where there is none.
    """

    interface: str
    clock: str
    enable: str
    width: str
    segments: str
    memory: str
    handoff_width: str = ""


@dataclass(frozen=True, kw_only=True)
class ProcessingSystem:
    """The processing system of a family, by the names that Vivado has for its pins.

    Attributes
    ----------
    ip, cell : str
        The IP and its cell in a block design.
    automation : str
        What block automation is asked for with a board file.
    clock, reset, interrupt : str
        Output clock, active-low reset, and interrupt input.
    control, control_clock : str
        AXI master port for registers, and the pin of its clock.
    memory : tuple of MemoryPort
        Ports to memory, in the order in which a design takes them: the first two are at different
        ports of the DDR controller (UG1085, "PL-PS Interface Specifics"; UG585, "AXI_HP
        Interfaces").
    memory_port_bytes : int
        Width of each: what it takes and gives a cycle, each way.
    """

    ip: str
    cell: str
    automation: str
    clock: str
    reset: str
    interrupt: str
    control: str
    control_clock: str
    memory: tuple[MemoryPort, ...]
    memory_port_bytes: int


PROCESSING_SYSTEMS: dict[Family, ProcessingSystem] = {
    "zynqmp": ProcessingSystem(
        ip="zynq_ultra_ps_e", cell="zynq_ultra_ps_e_0", automation='apply_board_preset "1"',
        clock="pl_clk0", reset="pl_resetn0", interrupt="pl_ps_irq0",
        control="M_AXI_HPM0_FPD", control_clock="maxihpm0_fpd_aclk",
        memory=tuple(MemoryPort(
            interface=f"S_AXI_HP{index}_FPD", clock=f"saxihp{index}_fpd_aclk",
            enable=f"PSU__USE__S_AXI_GP{index + 2}", width=f"PSU__SAXIGP{index + 2}__DATA_WIDTH",
            segments=f"SAXIGP{index + 2}", memory=f"HP{index}_DDR_",
            handoff_width=f"C_SAXIGP{index + 2}_DATA_WIDTH") for index in (0, 1, 2, 3)),
        memory_port_bytes=16),
    "zynq": ProcessingSystem(
        ip="processing_system7", cell="processing_system7_0",
        automation='make_external "FIXED_IO, DDR" apply_board_preset "1" '
                   'Master "Disable" Slave "Disable"',
        clock="FCLK_CLK0", reset="FCLK_RESET0_N", interrupt="IRQ_F2P",
        control="M_AXI_GP0", control_clock="M_AXI_GP0_ACLK",
        memory=tuple(MemoryPort(
            interface=f"S_AXI_HP{index}", clock=f"S_AXI_HP{index}_ACLK",
            enable=f"PCW_USE_S_AXI_HP{index}", width=f"PCW_S_AXI_HP{index}_DATA_WIDTH",
            segments=f"S_AXI_HP{index}", memory=f"HP{index}_DDR_") for index in (0, 2, 1, 3)),
        memory_port_bytes=8),
}


def memory_ports(platform: Platform) -> tuple[MemoryPort, ...]:
    """Return the ports to memory that the design of a platform takes."""
    return PROCESSING_SYSTEMS[platform.family].memory[:platform.memory_ports]


def core_ports(platform: Platform) -> MemoryPorts | None:
    """Return the masters of the core of a platform; None for one as wide as its own bus."""
    width = PROCESSING_SYSTEMS[platform.family].memory_port_bytes
    return None if platform.memory_ports == 1 else MemoryPorts(
        count=platform.memory_ports, data_bytes=width)


def settings(platform: Platform) -> dict[str, Any]:
    """Return the parameters of the processing system that the design depends on."""
    clock = platform.config.board.clock_mhz
    width = 8 * PROCESSING_SYSTEMS[platform.family].memory_port_bytes
    memory = {name: value for port in memory_ports(platform)
              for name, value in ((port.enable, 1), (port.width, width))}
    if platform.family == "zynqmp":
        return {
            "PSU__USE__M_AXI_GP0": 1, "PSU__USE__M_AXI_GP1": 0, "PSU__USE__M_AXI_GP2": 0,
            "PSU__MAXIGP0__DATA_WIDTH": 32,
            **memory,
            "PSU__USE__IRQ0": 1, "PSU__USE__FABRIC__RST": 1,
            "PSU__FPGA_PL0_ENABLE": 1, "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": clock,
        }
    return {
        "PCW_USE_M_AXI_GP0": 1, **memory,
        "PCW_USE_FABRIC_INTERRUPT": 1, "PCW_IRQ_F2P_INTR": 1,
        "PCW_EN_CLK0_PORT": 1, "PCW_EN_RST0_PORT": 1, "PCW_FPGA0_PERIPHERAL_FREQMHZ": clock,
    }


def reference_setting(platform: Platform) -> dict[str, Any]:
    """Return the parameter that tells the reference clock, for a design without a board file."""
    name = ("PSU__PSS_REF_CLK__FREQMHZ" if platform.family == "zynqmp"
            else "PCW_CRYSTAL_PERIPHERAL_FREQMHZ")
    return {name: BOARDS[platform.name].reference_mhz}
