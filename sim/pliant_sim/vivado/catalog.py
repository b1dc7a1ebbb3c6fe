"""The IP that block designs are made of: pins, interfaces, parameters, address segments.

A cell's pins follow from its parameters: a port that is not enabled does not exist.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pliant_sim.vivado.tcl import TclError

Kind = Literal["data", "clock", "high reset", "low reset", "interrupt"]

SENSITIVITIES = ("LEVEL_HIGH", "LEVEL_LOW", "EDGE_RISING", "EDGE_FALLING")

_NS = {"s": "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"}


@dataclass
class Pin:
    """A pin; `required` if a design must connect it."""

    output: bool
    kind: Kind = "data"
    width: int = 1
    required: bool = False


@dataclass
class Interface:
    """An AXI interface and the pin whose clock it runs at.

    `space` is the address space behind a master; `segments` are those behind a slave, by name:
    offset (None where the design decides) and size. `width` is that of its data in bits, 0 where
    it follows from what it is connected to.
    """

    master: bool
    clock: str
    space: str = ""
    segments: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    window: tuple[int, int] | None = None
    pins: tuple[str, ...] = ()
    width: int = 0


@dataclass
class Shape:
    """What a cell looks like from outside."""

    pins: dict[str, Pin]
    interfaces: dict[str, Interface]


@dataclass(frozen=True)
class Ip:
    """An IP: the parameters it has, with their defaults, and its shape for given values."""

    parameters: dict[str, str]
    shape: Callable[[dict[str, str]], Shape]
    automation: frozenset[str] = frozenset()


def _clock(required: bool = True) -> Pin:
    return Pin(output=False, kind="clock", required=required)


def _zynqmp(values: dict[str, str]) -> Shape:
    pins = {}
    interfaces = {}
    if values["PSU__FPGA_PL0_ENABLE"] == "1":
        pins["pl_clk0"] = Pin(output=True, kind="clock")
    if values["PSU__USE__FABRIC__RST"] == "1":
        pins["pl_resetn0"] = Pin(output=True, kind="low reset")
    if values["PSU__USE__IRQ0"] == "1":
        pins["pl_ps_irq0"] = Pin(output=False, kind="interrupt", required=True)
    masters = (("PSU__USE__M_AXI_GP0", "HPM0_FPD", 0xA000_0000, 1 << 28),
               ("PSU__USE__M_AXI_GP1", "HPM1_FPD", 0xB000_0000, 1 << 28),
               ("PSU__USE__M_AXI_GP2", "HPM0_LPD", 0x8000_0000, 1 << 29))
    for parameter, name, start, size in masters:
        if values[parameter] == "1":
            clock = f"maxi{name.lower()}_aclk"
            pins[clock] = _clock()
            interfaces[f"M_AXI_{name}"] = Interface(True, clock, "Data", window=(start, size))
    for index in range(4):
        if values[f"PSU__USE__S_AXI_GP{index + 2}"] == "0":
            continue
        clock, port = f"saxihp{index}_fpd_aclk", f"SAXIGP{index + 2}/HP{index}"
        pins[clock] = _clock()
        segments: dict[str, tuple[int | None, int]] = {
            f"{port}_DDR_LOW": (0, 1 << 31), f"{port}_LPS_OCM": (0xFF00_0000, 1 << 24),
            f"{port}_QSPI": (0xC000_0000, 1 << 29)}
        if values["PSU__DDR_HIGH_ADDRESS_GUI_ENABLE"] == "1":
            segments[f"{port}_DDR_HIGH"] = (1 << 35, 1 << 31)
        interfaces[f"S_AXI_HP{index}_FPD"] = Interface(
            False, clock, segments=segments,
            width=int(values[f"PSU__SAXIGP{index + 2}__DATA_WIDTH"]))
    return Shape(pins, interfaces)


def _zynq(values: dict[str, str]) -> Shape:
    pins = {}
    interfaces = {}
    if values["PCW_EN_CLK0_PORT"] == "1":
        pins["FCLK_CLK0"] = Pin(output=True, kind="clock")
    if values["PCW_EN_RST0_PORT"] == "1":
        pins["FCLK_RESET0_N"] = Pin(output=True, kind="low reset")
    if values["PCW_USE_FABRIC_INTERRUPT"] == "1" and values["PCW_IRQ_F2P_INTR"] == "1":
        pins["IRQ_F2P"] = Pin(output=False, kind="interrupt", required=True)
    if values["PCW_USE_M_AXI_GP0"] == "1":
        pins["M_AXI_GP0_ACLK"] = _clock()
        interfaces["M_AXI_GP0"] = Interface(
            True, "M_AXI_GP0_ACLK", "Data", window=(0x4000_0000, 1 << 30))
    for index in range(4):
        name = f"S_AXI_HP{index}"
        if values[f"PCW_USE_{name}"] == "1":
            pins[f"{name}_ACLK"] = _clock()
            interfaces[name] = Interface(
                False, f"{name}_ACLK", segments={f"{name}/HP{index}_DDR_LOWOCM": (0, 1 << 29)},
                width=int(values[f"PCW_{name}_DATA_WIDTH"]))
    return Shape(pins, interfaces)


def _reset_block(values: dict[str, str]) -> Shape:
    return Shape({
        "slowest_sync_clk": _clock(), "ext_reset_in": Pin(False, "low reset", required=True),
        "aux_reset_in": Pin(False, "low reset"), "dcm_locked": Pin(False),
        "mb_debug_sys_rst": Pin(False, "high reset"), "mb_reset": Pin(True, "high reset"),
        "bus_struct_reset": Pin(True, "high reset"), "peripheral_reset": Pin(True, "high reset"),
        "interconnect_aresetn": Pin(True, "low reset"),
        "peripheral_aresetn": Pin(True, "low reset"),
    }, {})


def _interrupt_controller(values: dict[str, str]) -> Shape:
    return Shape({
        "s_axi_aclk": _clock(), "s_axi_aresetn": Pin(False, "low reset", required=True),
        "intr": Pin(False, "interrupt", required=True), "irq": Pin(True, "interrupt"),
    }, {"s_axi": Interface(False, "s_axi_aclk", segments={"S_AXI/Reg": (None, 1 << 16)})})


def _smartconnect(values: dict[str, str]) -> Shape:
    interfaces = {f"S{index:02}_AXI": Interface(False, "aclk")
                  for index in range(int(values["NUM_SI"]))}
    interfaces |= {f"M{index:02}_AXI": Interface(True, "aclk")
                   for index in range(int(values["NUM_MI"]))}
    return Shape({"aclk": _clock(), "aresetn": Pin(False, "low reset", required=True)}, interfaces)


CATALOG: dict[str, Ip] = {
    "xilinx.com:ip:zynq_ultra_ps_e": Ip({
        "PSU__USE__M_AXI_GP0": "1", "PSU__USE__M_AXI_GP1": "1", "PSU__USE__M_AXI_GP2": "0",
        "PSU__MAXIGP0__DATA_WIDTH": "128",
        **{f"PSU__USE__S_AXI_GP{index}": "0" for index in range(2, 6)},
        **{f"PSU__SAXIGP{index}__DATA_WIDTH": "128" for index in range(2, 6)},
        "PSU__USE__IRQ0": "0", "PSU__USE__FABRIC__RST": "1",
        "PSU__FPGA_PL0_ENABLE": "1", "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "100",
        "PSU__PSS_REF_CLK__FREQMHZ": "33.333", "PSU__DDR_HIGH_ADDRESS_GUI_ENABLE": "0",
    }, _zynqmp, frozenset({"apply_board_preset"})),
    "xilinx.com:ip:processing_system7": Ip({
        "PCW_USE_M_AXI_GP0": "1",
        **{f"PCW_USE_S_AXI_HP{index}": "0" for index in range(4)},
        **{f"PCW_S_AXI_HP{index}_DATA_WIDTH": "64" for index in range(4)},
        "PCW_USE_FABRIC_INTERRUPT": "0", "PCW_IRQ_F2P_INTR": "0", "PCW_EN_CLK0_PORT": "1",
        "PCW_EN_RST0_PORT": "1", "PCW_FPGA0_PERIPHERAL_FREQMHZ": "50",
        "PCW_CRYSTAL_PERIPHERAL_FREQMHZ": "33.333333",
    }, _zynq, frozenset({"apply_board_preset", "make_external", "Master", "Slave"})),
    "xilinx.com:ip:proc_sys_reset": Ip({}, _reset_block),
    "xilinx.com:ip:axi_intc": Ip({"C_IRQ_CONNECTION": "0"}, _interrupt_controller),
    "xilinx.com:ip:smartconnect": Ip({"NUM_SI": "2", "NUM_MI": "1"}, _smartconnect),
}
"""By vendor, library and name; the versions are the newest of the tool."""


def read_component(path: Path) -> tuple[str, Ip]:
    """Return the name of a packaged core and what it looks like, from its component.xml."""
    root = ElementTree.parse(path).getroot()
    vlnv = ":".join(root.findtext(f"s:{name}", "", _NS)
                    for name in ("vendor", "library", "name", "version"))
    pins = {}
    for port in root.iterfind("s:model/s:ports/s:port", _NS):
        left = port.findtext("s:wire/s:vector/s:left", "0", _NS)
        pins[port.findtext("s:name", "", _NS)] = Pin(
            port.findtext("s:wire/s:direction", "", _NS) == "out", width=int(left) + 1,
            required=True)
    interfaces: dict[str, Interface] = {}
    clocks: dict[str, str] = {}
    for bus in root.iterfind("s:busInterfaces/s:busInterface", _NS):
        _read_bus(root, bus, pins, interfaces, clocks)
    for name, interface in interfaces.items():
        if name not in clocks:
            raise TclError(f"{vlnv}: interface {name} has no clock")
        interface.clock = clocks[name]
    for file in root.iterfind(".//s:fileSet/s:file/s:name", _NS):
        if not (path.parent / (file.text or "")).is_file():
            raise TclError(f"{vlnv}: file {file.text} is missing")
    return vlnv, Ip({"Component_Name": ""}, lambda values: Shape(pins, interfaces))


def _read_bus(
    root: ElementTree.Element, bus: ElementTree.Element, pins: dict[str, Pin],
    interfaces: dict[str, Interface], clocks: dict[str, str],
) -> None:
    name = bus.findtext("s:name", "", _NS)
    parameters = {item.findtext("s:name", "", _NS): item.findtext("s:value", "", _NS)
                  for item in bus.iterfind("s:parameters/s:parameter", _NS)}
    mapped = tuple(item.text or "" for item in bus.iterfind(".//s:physicalPort/s:name", _NS))
    bus_type = bus.find("s:busType", _NS)
    assert bus_type is not None
    kind = bus_type.get(f"{{{_NS['s']}}}name")
    if kind == "aximm":
        interface = Interface(bus.find("s:master", _NS) is not None, "", pins=mapped,
                              width=int(parameters["DATA_WIDTH"]))
        if interface.master:
            interface.space = name
        else:
            block = root.find("s:memoryMaps/s:memoryMap/s:addressBlock", _NS)
            assert block is not None
            segment = f"{name}/{block.findtext('s:name', '', _NS)}"
            interface.segments[segment] = (None, int(block.findtext("s:range", "", _NS)))
        interfaces[name] = interface
        for pin in mapped:
            pins[pin].required = False
    elif kind == "clock":
        pins[mapped[0]].kind = "clock"
        clocks.update(dict.fromkeys(parameters["ASSOCIATED_BUSIF"].split(":"), mapped[0]))
    elif kind == "reset":
        high = parameters["POLARITY"] == "ACTIVE_HIGH"
        pins[mapped[0]].kind = "high reset" if high else "low reset"
    elif kind == "interrupt":
        if parameters["SENSITIVITY"] not in SENSITIVITIES:
            raise TclError(f"interrupt {name}: SENSITIVITY {parameters['SENSITIVITY']}")
        pins[mapped[0]].kind = "interrupt"
    else:
        raise TclError(f"bus {name} is of unknown type {kind}")
