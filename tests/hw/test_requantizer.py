"""Requantizer and residual adder."""

from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import MULTIPLIER_BITS, TOP, verilog

BENCH = "pliant_sim.benches.requantizer_bench"


def test_words_equal_the_numerics_of_the_contract(simulator: Simulator) -> None:
    roundings = 3
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator) == (
        roundings * (len(MULTIPLIER_BITS) + 1))
