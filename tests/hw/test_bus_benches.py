"""The DMA engines and the register file in Verilator against cocotbext-axi."""

import pytest

from pliant_sim.benches.bus_units import TOP, verilog
from pliant_sim.benches.runner import run_bench


@pytest.mark.parametrize(("bench", "tests"), [("dma_bench", 10), ("registers_bench", 5)])
def test_units_agree_with_the_bus_models_of_cocotbext(bench: str, tests: int) -> None:
    assert run_bench(verilog(), TOP, f"pliant_sim.benches.{bench}") == tests
