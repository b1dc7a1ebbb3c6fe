"""The DMA engines and the register file in Verilator against cocotbext-axi."""

import pytest

from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.top import memory_prefixes
from pliant_sim.benches.bus_units import TOP, verilog
from pliant_sim.benches.runner import run_bench


@pytest.mark.parametrize("ports", [
    None, MemoryPorts(count=4, data_bytes=4)], ids=["one", "four_half_as_wide"])
def test_engines_agree_with_the_memory_of_cocotbext(ports: MemoryPorts | None) -> None:
    variables = {"MEMORY_PINS": ",".join(memory_prefixes(ports))}
    assert run_bench(verilog(ports), TOP, "pliant_sim.benches.dma_bench",
                     environment=variables) == 10


def test_registers_agree_with_the_bus_models_of_cocotbext() -> None:
    assert run_bench(verilog(), TOP, "pliant_sim.benches.registers_bench") == 5
