"""The accumulators in Verilator."""

from pliant_sim.benches.runner import run_bench
from pliant_sim.benches.units import TOP, verilog


def test_totals_equal_numpy() -> None:
    assert run_bench(verilog(), TOP, "pliant_sim.benches.accumulators_bench") == 1
