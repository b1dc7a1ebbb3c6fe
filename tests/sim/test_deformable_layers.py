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
