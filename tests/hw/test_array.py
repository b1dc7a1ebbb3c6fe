"""The matrix array in Verilator."""

from pliant_sim.benches.runner import run_bench
from pliant_sim.benches.units import TOP, verilog


def test_sums_equal_numpy_and_the_largest_fit() -> None:
    assert run_bench(verilog(), TOP, "pliant_sim.benches.array_bench") == 2
