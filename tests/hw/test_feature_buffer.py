"""The feature buffer."""

from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import TOP, verilog

BENCH = "pliant_sim.benches.feature_buffer_bench"


def test_words_and_priorities_equal_four_arrays(simulator: Simulator) -> None:
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator) == 1
