"""The sampler's walker in Verilator."""

from pliant_sim.benches.runner import run_bench
from pliant_sim.benches.units import TOP, verilog


def test_positions_equal_nested_loops_without_a_bubble() -> None:
    assert run_bench(verilog(), TOP, "pliant_sim.benches.sampler_bench") == 2
