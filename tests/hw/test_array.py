"""The matrix arrays: plain, and packed for each family of DSP slices."""

import pytest

from pliant_hw.dsp import FAMILIES
from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import TOP, verilog

BENCH = "pliant_sim.benches.array_bench"


@pytest.mark.parametrize("array", ["array", *(f"array_{name}" for name in FAMILIES)])
def test_sums_equal_numpy_and_the_largest_fit(simulator: Simulator, array: str) -> None:
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator, environment={"ARRAY": array}) == 2
