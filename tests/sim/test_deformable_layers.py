"""What displaced taps cost, on the small core."""

import pytest

from pliant.spec.config import preset
from pliant_sim.deformable_layers import SAMPLINGS, Shape, run_layer
from pliant_sim.rtl import RtlMachine

TINY = preset("tiny")


@pytest.fixture(scope="module")
def machine() -> RtlMachine:
    return RtlMachine(TINY)


@pytest.mark.parametrize("name", [name for name in SAMPLINGS if name != "plain"])
def test_a_deformable_layer_costs_little_more_than_a_plain_one(
    machine: RtlMachine, name: str
) -> None:
    shape = Shape(24, 8)
    plain, bent = (run_layer(machine, shape, SAMPLINGS[kind]) for kind in ("plain", name))
    assert plain.equal
    assert bent.equal
    assert bent.cycles < 1.5 * plain.cycles  # the copy of offsets shows in a layer this small


@pytest.mark.parametrize("name", [
    name for name, sampling in SAMPLINGS.items()
    if sampling is not None and not sampling.interpolate])
def test_a_depthwise_layer_of_nearest_pixels_costs_little_more_than_a_plain_one(
    machine: RtlMachine, name: str
) -> None:
    shape = Shape(32, 8, depthwise=True)
    plain, bent = (run_layer(machine, shape, SAMPLINGS[kind]) for kind in ("plain", name))
    assert plain.equal
    assert bent.equal
    assert bent.cycles < 1.5 * plain.cycles  # 2.25 cycles a word, not 2; nine in the matrix unit
