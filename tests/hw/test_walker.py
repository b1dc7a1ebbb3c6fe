"""The sampler's walker."""

from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import TOP, verilog

BENCH = "pliant_sim.benches.sampler_bench"


def test_positions_equal_nested_loops_without_a_bubble(simulator: Simulator) -> None:
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator) == 2
