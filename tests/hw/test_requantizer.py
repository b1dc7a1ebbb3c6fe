"""Requantizer and residual adder in Verilator."""

from pliant_sim.benches.runner import run_bench
from pliant_sim.benches.units import MULTIPLIER_BITS, TOP, verilog


def test_words_equal_the_numerics_of_the_contract() -> None:
    roundings = 3
    assert run_bench(verilog(), TOP, "pliant_sim.benches.requantizer_bench") == (
        roundings * (len(MULTIPLIER_BITS) + 1))
