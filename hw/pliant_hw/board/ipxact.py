"""The core as an IP-XACT component: ports, buses, registers, files.

The schema is IEEE 1685-2009, the one that Vivado reads and writes. What Vivado needs beyond it
stands in vendor extensions.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import fields
from xml.etree.ElementTree import Element, SubElement

from pliant.spec.config import ISA_VERSION, AcceleratorConfig
from pliant.spec.platform import CORE_VLNV, Family
from pliant.spec.register_words import ACCESS_NAMES, WORD_BITS, BitField, Word, words
from pliant.spec.registers import REGISTER_SPACE_BYTES, Access
from pliant_hw.board.ports import (
    CLOCK,
    CONTROL,
    INTERRUPT,
    INTERRUPT_SENSITIVITY,
    MODULE,
    RESET,
    Port,
    bus_pins,
    core_ports,
)
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.top import memory_prefixes

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
XILINX = "http://www.xilinx.com"

ADDRESS_BLOCK = "Reg"
"""Name of the block of registers; Vivado calls the address segment so."""

VERILOG = f"hdl/{MODULE}.v"
CLOCK_CONSTRAINT = f"constraints/{MODULE}_ooc.xdc"
USER_INTERFACE = f"xgui/{MODULE}_v1_0.tcl"
"""Files of the component, relative to component.xml."""

FAMILIES: dict[Family, tuple[str, ...]] = {"zynq": ("zynq",), "zynqmp": ("zynquplus",)}
"""Vivado's names of the device families whose DSP slices a core of a family instantiates."""

_VIEWS = (
    ("xilinx_anylanguagesynthesis", "Synthesis", ":vivado.xilinx.com:synthesis"),
    ("xilinx_anylanguagebehavioralsimulation", "Simulation", ":vivado.xilinx.com:simulation"),
)
_INTERFACE_VIEW = ("xilinx_xpgui", "UI Layout", ":vivado.xilinx.com:xgui.ui")

_WRITE_EFFECT = {"control": "oneToSet", "interrupt_status": "oneToClear"}
"""What writing 1 does in registers of Access.WRITE_ONE."""

for _prefix, _namespace in (("spirit", SPIRIT), ("xilinx", XILINX)):
    ElementTree.register_namespace(_prefix, _namespace)


def component(
    config: AcceleratorConfig, family: Family, ports: MemoryPorts | None = None
) -> str:
    """Return component.xml for the core of `config` with `ports`, for devices of `family`."""
    root = Element(f"{{{SPIRIT}}}component")
    for name, text in zip(("vendor", "library", "name", "version"), CORE_VLNV.split(":"),
                          strict=True):
        _add(root, name, text)
    _buses(_add(root, "busInterfaces"), config, ports)
    spaces = _add(root, "addressSpaces")
    for name in memory_prefixes(ports):
        space = _add(spaces, "addressSpace")
        _add(space, "name", name)
        _add(space, "range", 1 << config.axi_address_bits, format="long")
        _add(space, "width", 8 * _memory_bytes(config, ports), format="long")
    _memory_map(_add(_add(root, "memoryMaps"), "memoryMap"), config)
    _model(_add(root, "model"), core_ports(config, ports))
    _files(_add(root, "fileSets"))
    _add(root, "description",
         f"pliant, accelerator for quantized convolutional networks, configuration {config.name}")
    _own_parameters(root, config)
    _extensions(root, family)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def clock_constraint(config: AcceleratorConfig) -> str:
    """Return the constraint for synthesising the core by itself: a block design brings its own."""
    return (f"# {config.board.clock_mhz} MHz, for synthesis out of context\n"
            f"create_clock -name {CLOCK} -period {1000 / config.board.clock_mhz:.3f} "
            f"[get_ports {CLOCK}]\n")


def user_interface() -> str:
    """Return the Tcl of Vivado's dialogue for the core: there is nothing to choose."""
    return ("proc init_gui { IPINST } {\n"
            '    ipgui::add_param $IPINST -name "Component_Name"\n'
            "}\n")


def _add(parent: Element, tag: str, text: object = None, /, **attributes: str) -> Element:
    element = SubElement(parent, f"{{{SPIRIT}}}{tag}",
                         {f"{{{SPIRIT}}}{key}": value for key, value in attributes.items()})
    if text is not None:
        element.text = str(text)
    return element


def _parameters(
    parent: Element, values: Mapping[str, object], identifier: str | None = None
) -> Element:
    """Add parameters; with `identifier` before each name, as Vivado knows those of buses."""
    group = _add(parent, "parameters")
    for name, value in values.items():
        parameter = _add(group, "parameter")
        _add(parameter, "name", name)
        named = {} if identifier is None else {"id": f"{identifier}{name}"}
        _add(parameter, "value", value, **named)
    return group


def _own_parameters(root: Element, config: AcceleratorConfig) -> None:
    """Add the name that a user gives the component, and the configuration, which is fixed."""
    numbers = {item.name.upper(): getattr(config, item.name)
               for item in fields(AcceleratorConfig) if item.type == "int"}
    group = _parameters(root, {
        "CONFIGURATION": config.name, "FINGERPRINT": f"{config.fingerprint:016x}",
        "ISA_VERSION": ISA_VERSION, **numbers})
    name = _add(group, "parameter")
    _add(name, "name", "Component_Name")
    _add(name, "value", MODULE, resolve="user", id="PARAM_VALUE.Component_Name", order="1")


def _memory_bytes(config: AcceleratorConfig, ports: MemoryPorts | None) -> int:
    """Return the width of each master in bytes."""
    return config.axi_data_bytes if ports is None else ports.data_bytes


def _buses(group: Element, config: AcceleratorConfig, ports: MemoryPorts | None) -> None:
    shared = {"HAS_BURST": 1, "HAS_CACHE": 1, "HAS_LOCK": 0, "HAS_PROT": 1, "HAS_QOS": 0,
              "HAS_REGION": 0}
    _bus(group, CONTROL, "xilinx.com:interface:aximm", "slave", bus_pins(config, CONTROL, ports),
         {"PROTOCOL": "AXI4LITE", "DATA_WIDTH": WORD_BITS})
    masters, ratio = memory_prefixes(ports), 1 if ports is None else ports.ratio(config)
    for name in masters:
        _bus(group, name, "xilinx.com:interface:aximm", "master", bus_pins(config, name, ports),
             {"PROTOCOL": "AXI4", "DATA_WIDTH": 8 * _memory_bytes(config, ports),
              "ADDR_WIDTH": config.axi_address_bits, **shared, "SUPPORTS_NARROW_BURST": 0,
              "MAX_BURST_LENGTH": config.axi_burst_beats * ratio,
              "NUM_READ_OUTSTANDING": config.axi_outstanding,
              "NUM_WRITE_OUTSTANDING": config.axi_outstanding})
    _bus(group, CLOCK, "xilinx.com:signal:clock", "slave", {"CLK": CLOCK},
         {"ASSOCIATED_BUSIF": ":".join([CONTROL, *masters]), "ASSOCIATED_RESET": RESET})
    _bus(group, RESET, "xilinx.com:signal:reset", "slave", {"RST": RESET},
         {"POLARITY": "ACTIVE_HIGH"})
    _bus(group, INTERRUPT, "xilinx.com:signal:interrupt", "master", {"INTERRUPT": INTERRUPT},
         {"SENSITIVITY": INTERRUPT_SENSITIVITY})


def _bus(
    group: Element, name: str, kind: str, mode: str, pins: Mapping[str, str],
    parameters: Mapping[str, object],
) -> None:
    bus = _add(group, "busInterface")
    _add(bus, "name", name)
    vendor, library, interface = kind.split(":")
    for element, suffix in (("busType", ""), ("abstractionType", "_rtl")):
        _add(bus, element, vendor=vendor, library=library, name=interface + suffix, version="1.0")
    role = _add(bus, mode)
    if name == CONTROL:
        _add(role, "memoryMapRef", memoryMapRef=CONTROL)
    elif (interface, mode) == ("aximm", "master"):
        _add(role, "addressSpaceRef", addressSpaceRef=name)
    maps = _add(bus, "portMaps")
    for logical, physical in pins.items():
        pair = _add(maps, "portMap")
        _add(_add(pair, "logicalPort"), "name", logical)
        _add(_add(pair, "physicalPort"), "name", physical)
    _parameters(bus, parameters, f"BUSIFPARAM_VALUE.{name.upper()}.")


def _memory_map(group: Element, config: AcceleratorConfig) -> None:
    _add(group, "name", CONTROL)
    block = _add(group, "addressBlock")
    _add(block, "name", ADDRESS_BLOCK)
    _add(block, "baseAddress", 0, format="long")
    _add(block, "range", REGISTER_SPACE_BYTES, format="long")
    _add(block, "width", WORD_BITS, format="long")
    _add(block, "usage", "register")
    for word in words(config):
        _register(_add(block, "register"), word)


def _register(element: Element, word: Word) -> None:
    _add(element, "name", word.name)
    _add(element, "description", word.doc)
    _add(element, "addressOffset", f"0x{word.address:x}")
    _add(element, "size", WORD_BITS)
    _add(element, "volatile", "false" if word.access is Access.READ_WRITE or word.reset else "true")
    _add(element, "access", ACCESS_NAMES[word.access])
    _add(_add(element, "reset"), "value", f"0x{word.reset:x}")
    for field in word.fields:
        _field(_add(element, "field"), field, word)


def _field(element: Element, field: BitField, word: Word) -> None:
    _add(element, "name", field.name)
    if field.doc:
        _add(element, "description", field.doc)
    _add(element, "bitOffset", field.offset)
    _add(element, "bitWidth", field.width)
    _add(element, "access", ACCESS_NAMES[word.access])
    if field.values:
        group = _add(element, "enumeratedValues")
        for name, value, doc in field.values:
            item = _add(group, "enumeratedValue")
            _add(item, "name", name)
            if doc:
                _add(item, "description", doc)
            _add(item, "value", value)
    if word.access is Access.WRITE_ONE:
        _add(element, "modifiedWriteValue", _WRITE_EFFECT[word.name])


def _model(model: Element, ports: Iterable[Port]) -> None:
    views = _add(model, "views")
    for name, title, environment in (*_VIEWS, _INTERFACE_VIEW):
        view = _add(views, "view")
        _add(view, "name", name)
        _add(view, "displayName", title)
        _add(view, "envIdentifier", environment)
        if (name, title, environment) != _INTERFACE_VIEW:
            _add(view, "language", "Verilog")
            _add(view, "modelName", MODULE)
        _add(_add(view, "fileSetRef"), "localName", f"{name}_view_fileset")
    group = _add(model, "ports")
    for port in ports:
        element = _add(group, "port")
        _add(element, "name", port.name)
        wire = _add(element, "wire")
        _add(wire, "direction", port.direction)
        if port.width > 1:
            vector = _add(wire, "vector")
            _add(vector, "left", port.width - 1, format="long")
            _add(vector, "right", 0, format="long")
        definition = _add(_add(wire, "wireTypeDefs"), "wireTypeDef")
        _add(definition, "typeName", "wire")
        for name, _, _ in _VIEWS:
            _add(definition, "viewNameRef", name)


def _files(group: Element) -> None:
    (synthesis, simulation), interface = (view[0] for view in _VIEWS), _INTERFACE_VIEW[0]
    for view in (synthesis, simulation):
        file_set = _file_set(group, view)
        _file(file_set, VERILOG, ("fileType", "verilogSource"))
        if view == synthesis:
            _file(file_set, CLOCK_CONSTRAINT, *(("userFileType", use) for use in (
                "xdc", "USED_IN_implementation", "USED_IN_out_of_context", "USED_IN_synthesis")))
    _file(_file_set(group, interface), USER_INTERFACE, ("fileType", "tclSource"),
          ("userFileType", "XGUI_VERSION_2"))


def _file_set(group: Element, view: str) -> Element:
    file_set = _add(group, "fileSet")
    _add(file_set, "name", f"{view}_view_fileset")
    return file_set


def _file(file_set: Element, name: str, *kinds: tuple[str, str]) -> None:
    file = _add(file_set, "file")
    _add(file, "name", name)
    for kind, value in kinds:
        _add(file, kind, value)


def _extensions(root: Element, family: Family) -> None:
    core = SubElement(_add(root, "vendorExtensions"), f"{{{XILINX}}}coreExtensions")
    supported = SubElement(core, f"{{{XILINX}}}supportedFamilies")
    for name in FAMILIES[family]:
        SubElement(supported, f"{{{XILINX}}}family",
                   {f"{{{XILINX}}}lifeCycle": "Production"}).text = name
    taxonomies = SubElement(core, f"{{{XILINX}}}taxonomies")
    SubElement(taxonomies, f"{{{XILINX}}}taxonomy").text = "/UserIP"
    SubElement(core, f"{{{XILINX}}}displayName").text = MODULE
    SubElement(core, f"{{{XILINX}}}coreRevision").text = "1"
