"""The matrix arrays: plain, and packed for each family of DSP slices."""

import pytest

from pliant.spec.numerics import INT8_MIN, WEIGHT_MIN
from pliant_hw.array import Array
from pliant_hw.dsp import FAMILIES
from pliant_sim.benches.array_bench import environment
from pliant_sim.benches.runner import Simulator, run_bench
from pliant_sim.benches.units import TOP, compute_units, verilog

BENCH = "pliant_sim.benches.array_bench"


@pytest.mark.parametrize("name", ["array", *(f"array_{family}" for family in FAMILIES)])
def test_sums_equal_numpy_and_the_largest_fit(simulator: Simulator, name: str) -> None:
    array = compute_units().units[name]
    assert isinstance(array, Array)
    variables = environment(name, array, INT8_MIN if name == "array" else WEIGHT_MIN)
    assert run_bench(verilog(), TOP, BENCH, simulator=simulator, environment=variables) == 2
