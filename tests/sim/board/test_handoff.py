"""The hardware handoff, through PYNQ's own parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pynqmetadata.frontends import Metadata
from pynqmetadata.views.runtime import RuntimeMetadataParser

from pliant.spec.config import preset
from pliant.spec.platform import (
    CORE_INSTANCE,
    CORE_VLNV,
    INTERRUPT_CONTROLLER,
    PLATFORMS,
    Family,
    Platform,
)
from pliant.spec.registers import COUNTERS, REGISTER_SPACE_BYTES, REGISTERS, Status
from pliant_sim.board.clocks import DIVISOR_LIMIT, IO_PLL, fabric_clock
from pliant_sim.board.handoff import handoff

BOARDS = pytest.mark.parametrize("board", PLATFORMS.values(), ids=PLATFORMS)


def parse(board: Platform, directory: Path) -> Any:
    path = directory / "pliant.hwh"
    path.write_text(handoff(board, board.config), encoding="utf-8")
    return RuntimeMetadataParser(Metadata(input=str(path)))


@BOARDS
def test_core_and_interrupt_controller_are_at_the_platform_s_addresses(
    board: Platform, tmp_path: Path
) -> None:
    found = parse(board, tmp_path).ip_dict
    core, interrupts = found[CORE_INSTANCE], found[INTERRUPT_CONTROLLER]
    assert core["type"] == CORE_VLNV
    assert (core["phys_addr"], core["addr_range"]) == (board.core_address, REGISTER_SPACE_BYTES)
    assert (interrupts["phys_addr"], interrupts["addr_range"]) == (board.interrupt_address, 0x10000)
    assert interrupts["type"] == "xilinx.com:ip:axi_intc:4.1"
    assert core["interrupts"]["irq"] == {
        "controller": INTERRUPT_CONTROLLER, "index": 0, "fullpath": f"{CORE_INSTANCE}/irq"}


@BOARDS
def test_the_interrupt_reaches_the_processing_system(board: Platform, tmp_path: Path) -> None:
    parser = parse(board, tmp_path)
    entry = parser.interrupt_controllers[INTERRUPT_CONTROLLER]
    assert entry == {"parent": "", "index": 0, "raw_irq": 61 if board.family == "zynq" else 121}
    assert parser.family_ps == {"zynq": "processing_system7", "zynqmp": "zynq_ultra_ps_e"}[
        board.family]


@BOARDS
def test_every_master_of_the_core_has_the_memory_behind_a_port_of_its_own(board: Platform) -> None:
    root = ElementTree.fromstring(handoff(board, board.config).partition("\n")[2])
    core = root.find(f".//MODULE[@INSTANCE='{CORE_INSTANCE}']")
    ps = root.find(".//MODULE[@IS_PL='FALSE']")
    assert core is not None
    assert ps is not None
    ranges = [item.attrib for item in core.iterfind("MEMORYMAP/MEMRANGE")]
    assert [item["MASTERBUSINTERFACE"] for item in ranges] == (
        ["m_axi"] if board.memory_ports == 1
        else [f"m_axi_{index}" for index in range(board.memory_ports)])
    ports = [item["SLAVEBUSINTERFACE"] for item in ranges]
    assert len(set(ports)) == board.memory_ports
    assert len({(item["BASEVALUE"], item["HIGHVALUE"]) for item in ranges}) == 1
    slaves = {item.get("NAME") for item in ps.iterfind("BUSINTERFACES/BUSINTERFACE[@TYPE='SLAVE']")}
    assert slaves == set(ports)
    widths = {item.get("NAME"): item.get("VALUE") for item in ps.iterfind("PARAMETERS/PARAMETER")
              if str(item.get("NAME")).startswith("C_SAXIGP")}
    # On Zynq-7000 the ports have 64 bits unless software says otherwise; PYNQ does not.
    assert widths == ({} if board.family == "zynq" else {
        f"C_SAXIGP{index + 2}_DATA_WIDTH": "128" for index in range(board.memory_ports)})


def test_every_word_of_the_register_map_is_described(tmp_path: Path) -> None:
    board = PLATFORMS["ultra96"]
    registers = parse(board, tmp_path).ip_dict[CORE_INSTANCE]["registers"]
    assert len(registers) == sum(register.words for register in REGISTERS.values())
    expected = {
        register.address + 4 * word for register in REGISTERS.values()
        for word in range(register.words)}
    assert {item["address_offset"] for item in registers.values()} == expected
    assert {item["size"] for item in registers.values()} == {32}
    assert registers["status"]["access"] == "read-only"
    assert registers["watchdog"]["access"] == "read-write"
    assert registers["status"]["fields"].keys() == {str(flag.name) for flag in Status}
    assert registers["status"]["fields"]["FAULT"]["bit_offset"] == 2
    assert registers[f"{COUNTERS[0][0]}_high"]["address_offset"] == 0x104


@pytest.mark.parametrize("name", ["ultra96", "pynq_z2"])
def test_the_configuration_gives_the_clock(name: str, tmp_path: Path) -> None:
    board = PLATFORMS[name]
    parser = parse(board, tmp_path)
    clock = fabric_clock(board.family, board.config.board.clock_mhz)
    assert [parser.clock_dict[index]["enable"] for index in range(4)] == [1, 0, 0, 0]
    assert parser.clock_dict[0]["divisor0"] * parser.clock_dict[0]["divisor1"] == round(
        IO_PLL[board.family].mhz / clock.mhz)


def test_zynq_7000_clocks_still_have_no_frequency_in_pynq_s_parser(tmp_path: Path) -> None:
    # Once this fails, the repair in pliant_sim.board.device is to be deleted.
    assert parse(PLATFORMS["pynq_z2"], tmp_path).clock_dict[0]["frequency"] is None


@pytest.mark.parametrize("family", ["zynq", "zynqmp"])
@pytest.mark.parametrize("mhz", [1, 33.3, 71, 100, 125, 187.5, 250, 333])
def test_clocks_are_never_faster_than_asked_for(family: Family, mhz: float) -> None:
    clock = fabric_clock(family, mhz)
    assert 0.7 * mhz < clock.mhz <= mhz
    assert max(clock.divisor0, clock.divisor1) <= DIVISOR_LIMIT
    assert clock.mhz == pytest.approx(
        IO_PLL[family].mhz / (clock.divisor0 * clock.divisor1), abs=1e-6)


def test_too_slow_a_clock_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.1 MHz"):
        fabric_clock("zynq", 0.1)


def test_preset_tiny_fits_every_board() -> None:
    for board in PLATFORMS.values():
        assert f"0x{board.core_address:08X}" in handoff(board, preset("tiny"))
