"""The Verilog of a board is whole: every module it instantiates is its own or the device's."""

import pytest

from pliant.commands.build import build
from pliant.spec.config import preset
from pliant_hw.memory_ports import MemoryPorts
from pliant_sim.synthesis import yosys
from pliant_sim.synthesis.devices import default_device
from pliant_sim.synthesis.yosys import YosysError

SCRIPT = ("read_verilog -lib -specify +/xilinx/cells_sim.v", "read_verilog -lib {library}",
          "read_verilog core.v", "hierarchy -check -top pliant_core", "proc", "check -assert")


def elaborate(directory):
    yosys.run([line.format(library="+/xilinx/cells_xtra.v") for line in SCRIPT], directory)


@pytest.mark.parametrize(("name", "ports"), [
    ("tiny", None), ("tiny", MemoryPorts(count=2, data_bytes=4))])
def test_it_elaborates_with_the_slices_of_its_device(tmp_path, name, ports):
    result = build(preset(name), tmp_path / "core.v", ports=ports)
    assert result.array == default_device(name).dsp_slice
    elaborate(tmp_path)


def test_a_module_that_is_nobodys_is_found(tmp_path):
    (tmp_path / "core.v").write_text(
        "module pliant_core(input clk); DSP48E9 slice (.CLK(clk)); endmodule\n")
    with pytest.raises(YosysError, match="DSP48E9"):
        elaborate(tmp_path)
