"""The whole core in Verilator and in Icarus against the bus models of cocotbext-axi."""

import pytest

from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.verilog import generate
from pliant_sim.benches.core_driver import CONFIG
from pliant_sim.benches.runner import Simulator, icarus_available, run_bench
from pliant_sim.core import core_verilog

# Icarus has four-valued signals and memories that start unknown: it sees whatever depends on them.
ICARUS = [pytest.mark.slow, pytest.mark.skipif(
    not icarus_available(), reason="Icarus Verilog (iverilog) is not installed")]


@pytest.mark.parametrize("simulator", ["verilator", pytest.param("icarus", marks=ICARUS)])
def test_core_agrees_with_the_bus_models_of_cocotbext(simulator: Simulator) -> None:
    bench = "pliant_sim.benches.top_bench"
    assert run_bench(core_verilog(CONFIG), "pliant_core", bench, simulator=simulator) == 30


def test_core_with_several_memory_ports_computes_the_same() -> None:
    ports = MemoryPorts(count=2, data_bytes=4)
    variables = {"PORTS": f"{ports.count},{ports.data_bytes}"}
    assert run_bench(generate(CONFIG, ports=ports), "pliant_core", "pliant_sim.benches.ports_bench",
                     environment=variables) == 14
