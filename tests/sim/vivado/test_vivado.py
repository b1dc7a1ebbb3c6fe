"""The stand-in for Vivado refuses what Vivado would: it must, or its consent means nothing."""

import shutil

import pytest

from pliant.spec.config import preset
from pliant_hw.board.ipxact import component
from pliant_sim.vivado import tcl
from pliant_sim.vivado.catalog import read_component
from pliant_sim.vivado.tcl import TclError
from pliant_sim.vivado.vivado import Vivado

pytestmark = pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")

OPEN = "create_project p {} -part xczu3eg\ncreate_bd_design d\n"
PS = "create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e ps\n"
RESET = "create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset\n"
SWITCH = "create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect switch\n"
INTC = "create_bd_cell -type ip -vlnv xilinx.com:ip:axi_intc intc\n"


def run(tmp_path, text, **options):
    script = tmp_path / "script.tcl"
    script.write_text(text)
    vivado = Vivado(**options)
    return vivado.run(script), vivado


def test_words_of_any_kind_travel_both_ways(tmp_path):
    seen = []
    script = tmp_path / "script.tcl"
    script.write_text('puts [echo {} "a b" {c {d} é} \\\n  -x]')

    def handler(name, words):
        seen.append(words)
        return tcl.join(words)

    assert tcl.run(script, ["echo"], handler) == "{} {a b} {c {d} é} -x\n"
    assert seen == [["", "a b", "c {d} é", "-x"]]


@pytest.mark.parametrize(("text", "words"), [
    ("", []), (" a  b\n", ["a", "b"]), ("a {b {c d}} {}", ["a", "b {c d}", ""]),
    ('x "y, z" w', ["x", "y, z", "w"]), ("a \\\n b", ["a", "b"])])
def test_lists_are_split_as_tcl_splits_them(text, words):
    assert tcl.split(text) == words
    assert tcl.split(tcl.join(words)) == words


@pytest.mark.parametrize(("text", "message"), [
    ("create_projekt p", "invalid command name"),
    ("puts $nothing", "can't read \"nothing\""),
    ("create_project p -party x", "unknown option -party"),
    ("create_project p -part", "lacks its value"),
    ("create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect s", "no block design"),
    (OPEN + "create_bd_cell -type ip -vlnv xilinx.com:ip:smartkonnect s", "no ip"),
    (OPEN + PS + PS, "called ps already"),
    (OPEN + PS + "set_property -dict {CONFIG.PSU__USE__IRQ7 1} [get_bd_cells ps]",
     "no property CONFIG.PSU__USE__IRQ7"),
    (OPEN + "set_property board_part x:y:part0:1.0 [current_project]", "not installed"),
    (OPEN + PS + "apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e "
     '-config {apply_board_preset "1"} [get_bd_cells ps]', "no board part"),
    (OPEN + PS + RESET + "connect_bd_net ps/pl_clk7 reset/slowest_sync_clk", "no pins"),
    (OPEN + PS + RESET + "connect_bd_net ps/pl_clk0 reset/ext_reset_in", "kinds"),
    (OPEN + RESET + INTC + "connect_bd_net reset/peripheral_reset intc/s_axi_aresetn", "kinds"),
    (OPEN + RESET + "connect_bd_net reset/peripheral_aresetn reset/interconnect_aresetn",
     "several drivers"),
    (OPEN + SWITCH + INTC + "connect_bd_intf_net switch/S00_AXI intc/s_axi", "both"),
    (OPEN + SWITCH + INTC + "connect_bd_intf_net switch/M00_AXI intc/s_axi\n"
     "connect_bd_intf_net switch/M00_AXI intc/s_axi", "already"),
    (OPEN + PS + INTC + "assign_bd_address -offset 0xA0000000 -range 0x10000 "
     "-target_address_space ps/Data intc/S_AXI/Reg", "cannot be reached"),
    (OPEN + PS + "validate_bd_design", "ps/maxihpm0_fpd_aclk is not connected"),
    (OPEN + "make_wrapper -files x -top", "not validated"),
])
def test_what_vivado_would_refuse_is_refused(tmp_path, text, message):
    with pytest.raises(TclError, match=message):
        run(tmp_path, text.replace("{}", str(tmp_path)) if "create_project p {}" in text else text)


ASSIGN = (OPEN + PS + INTC + "set_property -dict {CONFIG.PSU__USE__M_AXI_GP1 0} ps\n"
          "connect_bd_intf_net ps/M_AXI_HPM0_FPD intc/s_axi\n"
          "assign_bd_address -offset %s -range %s -target_address_space ps/Data intc/S_AXI/Reg\n")


@pytest.mark.parametrize(("offset", "size", "message"), [
    ("0x50000000", "0x10000", "outside the window"),
    ("0xA0001000", "0x10000", "aligned"),
    ("0xA0000000", "0x1000", "at least"),
    ("0xA0000000", "0x18000", "power of two"),
])
def test_addresses_keep_to_the_rules(tmp_path, offset, size, message):
    run(tmp_path, (ASSIGN % ("0xA0000000", "0x10000")).replace("{}", str(tmp_path), 1))
    with pytest.raises(TclError, match=message):
        run(tmp_path, (ASSIGN % (offset, size)).replace("{}", str(tmp_path), 1))


def test_an_address_is_assigned_once(tmp_path):
    text = (ASSIGN % ("0xA0000000", "0x10000")).replace("{}", str(tmp_path), 1)
    again = text.splitlines()[-1].replace("0xA0000000", "0xA0010000")
    with pytest.raises(TclError, match="assigned twice"):
        run(tmp_path, f"{text}{again}\n")


def test_an_interrupt_of_unknown_sensitivity_is_refused(tmp_path):
    path = tmp_path / "component.xml"
    path.write_text(component(preset("tiny"), "zynqmp").replace("EDGE_RISING", "EDGE_BOTH"))
    with pytest.raises(TclError, match="interrupt irq: SENSITIVITY EDGE_BOTH"):
        read_component(path)
