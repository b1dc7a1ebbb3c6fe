"""The matrix array."""

from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import TOP, verilog

BENCH = "pliant_sim.benches.array_bench"


def test_sums_equal_numpy_and_the_largest_fit(simulator: Simulator) -> None:
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator) == 2
