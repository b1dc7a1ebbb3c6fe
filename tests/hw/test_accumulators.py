"""The accumulators."""

from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import TOP, verilog

BENCH = "pliant_sim.benches.accumulators_bench"


def test_totals_equal_numpy(simulator: Simulator) -> None:
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator) == 1
