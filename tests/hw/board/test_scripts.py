"""The scripts of every board, executed by Tcl on a model of Vivado's block designs."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pliant.driver.manifest import read_manifest
from pliant.spec.platform import CORE_INSTANCE, INTERRUPT_CONTROLLER, PLATFORMS, platform
from pliant_hw.board.boards import BOARDS, PROCESSING_SYSTEMS
from pliant_hw.board.boards import core_ports as memory_ports
from pliant_hw.board.ports import LEFT_OPEN, core_ports
from pliant_hw.top import memory_prefixes
from pliant_sim.vivado.tcl import TclError
from pliant_sim.vivado.vivado import Vivado

pytestmark = pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")

OPEN_PINS = frozenset(f"{CORE_INSTANCE}/{name}" for name in LEFT_OPEN)


def board_part(name):
    return BOARDS[name].board_part.replace("*", "maker", 1).replace("*", "part0:1.0")


def vivado(name, **options):
    return Vivado(**{"board_parts": [board_part(name)], "open_pins": OPEN_PINS, **options})


def test_every_platform_is_a_board_with_a_recipe():
    assert BOARDS.keys() == PLATFORMS.keys()
    text = (Path(__file__).parents[3] / "bitstreams" / "README.md").read_text()
    recipes = dict(re.findall(r"^\| `(\w+)`[^|]* \| ([\d.]+) \|", text, re.M))
    assert recipes == {name: board.vivado for name, board in BOARDS.items()}


# Only UltraScale+ has memory beyond 32 bits of address.
@pytest.mark.parametrize(("name", "more_memory"), [
    (item.name, more) for item in PLATFORMS.values()
    for more in ((False, True) if item.family == "zynqmp" else (False,))])
def test_the_script_builds_a_bitstream(written, name, more_memory):
    board = platform(name)
    tool = vivado(name, more_memory=more_memory)
    directory = written(board)
    printed = tool.run(directory / "build.tcl")
    assert f"{board.config.board.clock_mhz} MHz asked for, worst slack 0.05 ns" in printed
    assert tool.part == board.part
    assert tool.properties["project", "board_part"] == board_part(name)
    assert (directory / f"pliant_{name}.bit").is_file()
    assert (directory / f"pliant_{name}.hwh").is_file()
    assert (directory / "timing.rpt").is_file()
    assert tool.files["constrs_1"] == [str(directory / "constraints.xdc")]
    result = json.loads((directory / "result.json").read_text())
    assert (result["setup_slack_ns"], result["hold_slack_ns"]) == (0.05, 0.01)
    check_design(tool, board, more_memory)


def check_design(tool, board, more_memory):
    design, ps = tool.design, PROCESSING_SYSTEMS[board.family]
    # The core is the packaged one, and all its pins but two are connected.
    ports = {port.name for port in core_ports(board.config, memory_ports(board))}
    assert set(design.cells[CORE_INSTANCE].shape.pins) == ports
    nets = set().union(*design.nets)
    buses = {pin for name, item in design.interfaces().items()
             if name.startswith(f"{CORE_INSTANCE}/") and name in design.links for pin in item.pins}
    single = {pin.partition("/")[2] for pin in nets if pin.startswith(f"{CORE_INSTANCE}/")}
    assert buses | single | set(LEFT_OPEN) == ports
    assert not (buses | single) & set(LEFT_OPEN)
    # Addresses as the platform says, and nothing else in the processor's space.
    placed = design.spaces[f"{ps.cell}/Data"]
    assert {name: (item.offset, item.size) for name, item in placed.items()} == {
        f"{CORE_INSTANCE}/s_axi/Reg": (board.core_address, 1 << 12),
        f"{INTERRUPT_CONTROLLER}/S_AXI/Reg": (board.interrupt_address, 1 << 16)}
    # All memory, and only memory, is in reach of each master, by a port of its own.
    interfaces, bytes_at_port = design.interfaces(), ps.memory_port_bytes
    seen = {}
    for bus in memory_prefixes(memory_ports(board)):
        name = f"{CORE_INSTANCE}/{bus}"
        assert interfaces[name].width == 8 * (
            board.config.axi_data_bytes if board.memory_ports == 1 else bytes_at_port)
        switch = design.links[name].partition("/")[0]
        port = design.links[f"{switch}/M00_AXI"]
        assert interfaces[port].width == 8 * bytes_at_port
        seen[port.partition("/")[2]] = {
            segment.partition("/")[2] for segment in design.spaces[name]}
    segments = ["LOWOCM"] if board.family == "zynq" else ["LOW", *(["HIGH"] if more_memory else [])]
    expected = {
        "zynq": {f"S_AXI_HP{index}": f"S_AXI_HP{index}/HP{index}_DDR_" for index in (0, 2)},
        "zynqmp": {f"S_AXI_HP{index}_FPD": f"SAXIGP{index + 2}/HP{index}_DDR_"
                   for index in range(board.memory_ports)}}[board.family]
    assert seen == {port: {first + last for last in segments} for port, first in expected.items()}
    assert len(set(design.interfaces()) & {f"{ps.cell}/S_AXI_HP{index}{end}" for index in range(4)
                                           for end in ("", "_FPD")}) == board.memory_ports
    # The core's clock and the interrupt's way.
    def net(pin):
        (found,) = [net for net in design.nets if pin in net]
        return found

    assert f"{ps.cell}/{ps.clock}" in net(f"{CORE_INSTANCE}/clk")
    assert net(f"{CORE_INSTANCE}/irq") == {f"{CORE_INSTANCE}/irq", f"{INTERRUPT_CONTROLLER}/intr"}
    assert net(f"{INTERRUPT_CONTROLLER}/irq") == {
        f"{INTERRUPT_CONTROLLER}/irq", f"{ps.cell}/{ps.interrupt}"}
    values = design.cells[ps.cell].values
    clock = str(board.config.board.clock_mhz)
    assert clock in (values.get("PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"),
                     values.get("PCW_FPGA0_PERIPHERAL_FREQMHZ"))


@pytest.mark.parametrize("name", PLATFORMS)
def test_without_board_files_the_reference_clock_is_set_by_hand(written, name):
    board = platform(name)
    directory = written(board)
    with pytest.raises(TclError, match="install one"):
        vivado(name, board_parts=[]).run(directory / "build.tcl")
    tool = vivado(name, board_parts=[])
    tool.run(directory / "build.tcl", ["--no-board-files"])
    cell = PROCESSING_SYSTEMS[board.family].cell
    assert tool.automated[cell]["apply_board_preset"] == "0"
    values = tool.design.cells[cell].values
    reference = values.get("PCW_CRYSTAL_PERIPHERAL_FREQMHZ",
                           values.get("PSU__PSS_REF_CLK__FREQMHZ"))
    assert float(reference) == BOARDS[name].reference_mhz


def test_two_board_files_are_not_chosen_from(written):
    directory = written(platform("ultra96"))
    parts = ["avnet.com:ultra96v2:part0:1.2", "avnet-tria:ultra96v2:part0:1.3"]
    with pytest.raises(TclError, match=r"--board-part NAME"):
        vivado("ultra96", board_parts=parts).run(directory / "build.tcl")
    tool = vivado("ultra96", board_parts=parts)
    tool.run(directory / "build.tcl", ["--board-part", parts[0], "--jobs", "2"])
    assert tool.properties["project", "board_part"] == parts[0]


def test_board_files_can_lie_anywhere(written, tmp_path):
    directory = written(platform("aup_zu3"))
    tool = vivado("aup_zu3", board_parts=[], repositories={str(tmp_path): [board_part("aup_zu3")]})
    tool.run(directory / "build.tcl", ["--board-repo", str(tmp_path), "--project-only"])
    assert tool.properties["project", "board_part"] == board_part("aup_zu3")


def test_the_carrier_of_the_kv260_is_named(written):
    tool = vivado("kv260")
    tool.run(written(platform("kv260")) / "build.tcl", ["--project-only"])
    assert "kv260_carrier" in tool.properties["project", "board_connections"]
    assert tool.runs == {}


@pytest.mark.parametrize(("options", "message"), [
    ({"setup_slack": -0.001}, "timing is not met"),
    ({"hold_slack": -0.5}, "timing is not met"),
    ({"failing": "synth_1"}, "synth_1 failed"),
    ({"failing": "impl_1"}, "impl_1 failed"),
    ({"release": "2019.1"}, "older than 2020.2"),
])
def test_what_goes_wrong_leaves_no_bitstream(written, options, message):
    directory = written(platform("ultra96"))
    vivado("ultra96").run(directory / "build.tcl")
    assert (directory / "pliant_ultra96.bit").is_file()
    with pytest.raises(TclError, match=message):
        vivado("ultra96", **options).run(directory / "build.tcl")
    if "release" not in options:
        assert not (directory / "pliant_ultra96.bit").exists()
        assert not (directory / "result.json").exists()


def test_an_unknown_option_is_refused(written):
    with pytest.raises(TclError, match="unknown option --fast"):
        vivado("ultra96").run(written(platform("ultra96")) / "build.tcl", ["--fast"])


@pytest.mark.parametrize(("old", "new", "message"), [
    ("pliant::wire pliant_core_0/irq axi_intc_0/intr", "", "pin pliant_core_0/irq is not connect"),
    ("peripheral_reset pliant_core_0/rst", "peripheral_aresetn pliant_core_0/rst", "kinds"),
    ("pliant_core_0/clk", "pliant_core_0/clock", "no pins pliant_core_0/clock"),
    ("pliant_core_0/m_axi_1 memory_axi_1/S00_AXI", "pliant_core_0/m_axi_1 memory_axi_1/S01_AXI",
     "no intf_pins memory_axi_1/S01_AXI"),
    ("pliant::bus memory_axi_1/M00_AXI zynq_ultra_ps_e_0/S_AXI_HP1_FPD", "",
     "HP1_DDR_LOW cannot be reached"),
    ("memory_axi_1/M00_AXI zynq_ultra_ps_e_0/S_AXI_HP1_FPD",
     "memory_axi_1/M00_AXI zynq_ultra_ps_e_0/S_AXI_HP0_FPD", "connected to"),
    ("pliant::memory pliant_core_0/m_axi_1 zynq_ultra_ps_e_0/SAXIGP3 HP1_DDR_*",
     "pliant::memory pliant_core_0/m_axi_1 zynq_ultra_ps_e_0/SAXIGP2 HP0_DDR_*",
     "cannot be reached"),
    ("0xA0010000", "0xA0000000", "overlaps"),
    ("exclude_bd_addr_seg -target_address_space $space $segment", "", "neither or both assigned"),
    ("HP0_DDR_*", "HP0_DRAM_*", "there is no memory"),
    ("CONFIG.PSU__USE__S_AXI_GP2 1", "CONFIG.PSU__USE__S_AXI_GP2 0", "no pins"),
])
def test_a_slip_in_the_design_is_found(written, old, new, message):
    directory = written(platform("aup_zu3"))
    script = directory / "block_design.tcl"
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new))
    with pytest.raises(TclError, match=re.escape(message)):
        vivado("aup_zu3").run(directory / "build.tcl")


def test_one_port_is_joined_to_the_core_s_own_bus(written):
    assert platform("ultra96").memory_ports == 1
    directory = written(platform("ultra96"))
    assert "m_axi_0" not in (directory / "ip/pliant_core/component.xml").read_text()
    tool = vivado("ultra96")
    tool.run(directory / "build.tcl")
    assert tool.design.links[f"{CORE_INSTANCE}/m_axi"] == "memory_axi_0/S00_AXI"
    assert tool.design.links["memory_axi_0/M00_AXI"] == "zynq_ultra_ps_e_0/S_AXI_HP0_FPD"


def test_the_trace_pins_must_be_declared_open(written):
    with pytest.raises(TclError, match="pin pliant_core_0/trace_start is not connected"):
        vivado("ultra96", open_pins=frozenset()).run(written(platform("ultra96")) / "build.tcl")


def test_a_manifest_is_written_with_the_checksums_of_all_sources(written):
    directory = written(platform("kv260"))
    manifest = read_manifest(directory)
    assert manifest.board == "kv260"
    assert manifest.bitstream is None
    assert manifest.changed_sources() == []
    there = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert there - manifest.sources.keys() == {"manifest.json", "README.md"}
