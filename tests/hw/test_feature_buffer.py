"""The feature buffer in Verilator."""

from pliant_sim.benches.runner import run_bench
from pliant_sim.benches.units import TOP, verilog


def test_words_and_priorities_equal_four_arrays() -> None:
    assert run_bench(verilog(), TOP, "pliant_sim.benches.feature_buffer_bench") == 1
