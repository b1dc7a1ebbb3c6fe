"""The hardware handoff (.hwh) of pliant's block design: what PYNQ reads of Vivado's export.

It describes the processing system, the core with its registers, the interrupt controller, and how
clock, interrupt and addresses connect them. Interconnects, resets and AXI signals are left out:
PYNQ resolves addresses without them.
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import (
    CORE_INSTANCE,
    CORE_VLNV,
    DESIGN,
    INTERRUPT_CONTROLLER,
    INTERRUPT_SPACE_BYTES,
    Family,
    Platform,
)
from pliant.spec.register_words import ACCESS_NAMES, WORD_BITS, Word, words
from pliant.spec.registers import REGISTER_SPACE_BYTES
from pliant_hw.board.boards import (
    PROCESSING_SYSTEMS,
    ProcessingSystem,
    core_ports,
    memory_ports,
)
from pliant_hw.board.ports import INTERRUPT_SENSITIVITY
from pliant_hw.top import memory_prefixes
from pliant_sim.board.clocks import fabric_clock

_AXI = "xilinx.com:interface:aximm:1.0"


VERSIONS: dict[Family, str] = {"zynq": "5.5", "zynqmp": "3.5"}
"""Of the processing systems' IP."""

INTERRUPT_BY_EDGE = INTERRUPT_SENSITIVITY == "EDGE_RISING"
"""Whether the interrupt controller is made for edges: it follows the core."""

MEMORY_BLOCKS: dict[Family, str] = {"zynq": "LOWOCM", "zynqmp": "LOW"}
"""What the names of the memory's address segments end in."""

MEMORY_LIMIT: dict[Family, int] = {"zynq": 0x2000_0000, "zynqmp": 0x8000_0000}
"""First address above the memory that the core reaches: 512 MiB and 2 GiB."""


def handoff(platform: Platform, config: AcceleratorConfig) -> str:
    """Return the .hwh file of a platform with a configuration in its logic, as XML."""
    ps = PROCESSING_SYSTEMS[platform.family]
    root = Element("EDKSYSTEM", EDWVERSION="1.2", TIMESTAMP="none", VIVADOVERSION="none")
    device, _, package = platform.part.partition("-")
    SubElement(root, "SYSTEMINFO", ARCH=platform.family, DEVICE=device, NAME=DESIGN,
               PACKAGE=package)
    SubElement(root, "EXTERNALPORTS")
    SubElement(root, "EXTERNALINTERFACES")
    modules = SubElement(root, "MODULES")
    _core(modules, platform, config, ps)
    _interrupt_controller(modules, ps)
    _processing_system(modules, platform, config, ps)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _core(
    modules: Element, platform: Platform, config: AcceleratorConfig, ps: ProcessingSystem
) -> None:
    module = _module(modules, CORE_INSTANCE, CORE_VLNV)
    blocks = SubElement(module, "ADDRESSBLOCKS")
    block = SubElement(blocks, "ADDRESSBLOCK", ACCESS="read-write", INTERFACE="s_axi",
                       NAME="Reg", RANGE=str(REGISTER_SPACE_BYTES), USAGE="register")
    registers = SubElement(block, "REGISTERS")
    for word in words(config):
        _register(registers, word)
    _ports(module, _port("I", "clk", (ps.cell, ps.clock), kind="clk"),
           _port("O", "irq", (INTERRUPT_CONTROLLER, "intr"), kind="INTERRUPT",
                 SENSITIVITY=INTERRUPT_SENSITIVITY))
    masters = memory_prefixes(core_ports(platform))
    _interfaces(module, s_axi="SLAVE", **dict.fromkeys(masters, "MASTER"))
    segment, limit = MEMORY_BLOCKS[platform.family], MEMORY_LIMIT[platform.family]
    _memory_map(module, *(
        (port.memory + segment, 0, limit, ps.cell, master, "MEMORY", port.interface)
        for master, port in zip(masters, memory_ports(platform), strict=True)))


def _interrupt_controller(modules: Element, ps: ProcessingSystem) -> None:
    module = _module(modules, INTERRUPT_CONTROLLER, "xilinx.com:ip:axi_intc:4.1")
    _parameters(module, C_IRQ_IS_LEVEL="1", C_NUM_INTR_INPUTS="1",
                C_KIND_OF_INTR=f"0x{0xFFFF_FFFE | INTERRUPT_BY_EDGE:08X}",
                C_KIND_OF_EDGE="0xFFFFFFFF", C_KIND_OF_LVL="0xFFFFFFFF")
    _ports(module, _port("I", "s_axi_aclk", (ps.cell, ps.clock), kind="clk"),
           _port("I", "intr", (CORE_INSTANCE, "irq"), kind="INTERRUPT",
                 SENSITIVITY=INTERRUPT_SENSITIVITY),
           _port("O", "irq", (ps.cell, ps.interrupt), kind="INTERRUPT",
                 SENSITIVITY="LEVEL_HIGH"))
    _interfaces(module, s_axi="SLAVE")


def _processing_system(
    modules: Element, platform: Platform, config: AcceleratorConfig, ps: ProcessingSystem
) -> None:
    module = _module(
        modules, ps.cell, f"xilinx.com:ip:{ps.ip}:{VERSIONS[platform.family]}", IS_PL="FALSE")
    _parameters(module, **_clock_parameters(platform.family, config.board.clock_mhz))
    ports = memory_ports(platform)
    if platform.family == "zynqmp":
        _parameters(module, C_MAXIGP0_DATA_WIDTH="32", **{
            port.handoff_width: str(8 * ps.memory_port_bytes) for port in ports})
    _ports(module, _port("O", ps.clock, (CORE_INSTANCE, "clk"),
                         (INTERRUPT_CONTROLLER, "s_axi_aclk"), kind="clk"),
           _port("I", ps.interrupt, (INTERRUPT_CONTROLLER, "irq"), kind="INTERRUPT",
                 SENSITIVITY="LEVEL_HIGH"))
    _interfaces(module, **{ps.control: "MASTER"}, **{port.interface: "SLAVE" for port in ports})
    core, interrupts = platform.core_address, platform.interrupt_address
    _memory_map(
        module,
        ("Reg", core, core + REGISTER_SPACE_BYTES, CORE_INSTANCE, ps.control, "REGISTER", "s_axi"),
        ("Reg", interrupts, interrupts + INTERRUPT_SPACE_BYTES, INTERRUPT_CONTROLLER,
         ps.control, "REGISTER", "s_axi"))


def _clock_parameters(family: Family, mhz: float) -> dict[str, str]:
    clock = fabric_clock(family, mhz)
    found: dict[str, str] = {}
    for index in range(4):
        enable = str(int(index == 0))
        # Clocks that are not used are described alike: PYNQ reads the fields of all four.
        if family == "zynq":
            found |= {
                f"PCW_FPGA_FCLK{index}_ENABLE": enable,
                f"PCW_FCLK{index}_PERIPHERAL_DIVISOR0": str(clock.divisor0),
                f"PCW_FCLK{index}_PERIPHERAL_DIVISOR1": str(clock.divisor1),
                f"PCW_FCLK{index}_PERIPHERAL_CLKSRC": "IO PLL",
                f"PCW_ACT_FPGA{index}_PERIPHERAL_FREQMHZ": f"{clock.mhz:.6f}",
            }
        else:
            field = f"PSU__CRL_APB__PL{index}_REF_CTRL__"
            found |= {
                f"PSU__FPGA_PL{index}_ENABLE": enable,
                f"{field}DIVISOR0": str(clock.divisor0), f"{field}DIVISOR1": str(clock.divisor1),
                f"{field}SRCSEL": "IOPLL", f"{field}ACT_FREQMHZ": f"{clock.mhz:.6f}",
            }
    return found


def _register(registers: Element, word: Word) -> None:
    access = ACCESS_NAMES[word.access]
    register = SubElement(registers, "REGISTER", NAME=word.name)
    _properties(register, DESCRIPTION=word.doc, ADDRESS_OFFSET=f"{word.address:#x}",
                SIZE=str(WORD_BITS), ACCESS=access, IS_ENABLED="true",
                RESET_VALUE=f"{word.reset:#x}")
    fields = SubElement(register, "FIELDS")
    for bits in word.fields:
        field = SubElement(fields, "FIELD", NAME=bits.name)
        _properties(field, DESCRIPTION=bits.doc, ADDRESS_OFFSET=str(bits.offset), ACCESS=access,
                    BIT_OFFSET=str(bits.offset), BIT_WIDTH=str(bits.width))


def _module(modules: Element, instance: str, vlnv: str, **attributes: str) -> Element:
    name, version = vlnv.split(":")[2:]
    return SubElement(modules, "MODULE", {
        "FULLNAME": f"/{instance}", "HWVERSION": version, "INSTANCE": instance,
        "IPTYPE": "PERIPHERAL", "IS_ENABLE": "1", "MODTYPE": name, "VLNV": vlnv, **attributes})


def _properties(parent: Element, **values: str) -> None:
    for name, value in values.items():
        SubElement(parent, "PROPERTY", NAME=name, VALUE=value)


def _parameters(module: Element, **values: str) -> None:
    parent = module.find("PARAMETERS")
    parent = SubElement(module, "PARAMETERS") if parent is None else parent
    for name, value in values.items():
        SubElement(parent, "PARAMETER", NAME=name, VALUE=value)


def _port(
    direction: str, name: str, *connections: tuple[str, str], kind: str, **attributes: str
) -> Element:
    port = Element("PORT", {"DIR": direction, "NAME": name, "SIGIS": kind, **attributes})
    parent = SubElement(port, "CONNECTIONS")
    for instance, other in connections:
        SubElement(parent, "CONNECTION", INSTANCE=instance, PORT=other)
    return port


def _ports(module: Element, *ports: Element) -> None:
    SubElement(module, "PORTS").extend(ports)


def _interfaces(module: Element, **kinds: str) -> None:
    parent = SubElement(module, "BUSINTERFACES")
    for name, kind in kinds.items():
        SubElement(parent, "BUSINTERFACE", NAME=name, TYPE=kind, VLNV=_AXI)


def _memory_map(module: Element, *ranges: tuple[str, int, int, str, str, str, str]) -> None:
    parent = SubElement(module, "MEMORYMAP")
    for block, base, limit, instance, master, kind, slave in ranges:
        SubElement(parent, "MEMRANGE", ADDRESSBLOCK=block, BASEVALUE=f"0x{base:08X}",
                   HIGHVALUE=f"0x{limit - 1:08X}", INSTANCE=instance, IS_DATA="TRUE",
                   MASTERBUSINTERFACE=master, MEMTYPE=kind, SLAVEBUSINTERFACE=slave)
    peripherals = SubElement(module, "PERIPHERALS")
    for instance in dict.fromkeys(item[3] for item in ranges):
        SubElement(peripherals, "PERIPHERAL", INSTANCE=instance)
