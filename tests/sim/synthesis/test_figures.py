import dataclasses
import json

import pytest

from pliant.spec.config import preset
from pliant_sim.synthesis.buffers import buffer_bits, misplaced
from pliant_sim.synthesis.devices import default_device
from pliant_sim.synthesis.figures import CASES, RECORD, growth, measure
from pliant_sim.synthesis.report import report

RECORDED = {"whole": {"lut": 1000, "dsp": 10, "levels": 7}, "small": {"lut": 4}}


@pytest.mark.parametrize(("unit", "name", "value", "grown"), [
    ("whole", "lut", 1058, False),
    ("whole", "lut", 1059, True),
    ("whole", "dsp", 11, True),
    ("whole", "levels", 8, True),
    ("whole", "uram", 1, True),
    ("small", "lut", 12, False),
    ("small", "lut", 13, True),
    ("new", "lut", 500, False),
])
def test_growth_beyond_five_percent_is_named(unit, name, value, grown):
    lines = growth(RECORDED, {unit: {name: value}})
    assert bool(lines) == grown
    assert all(line.startswith(f"{unit}: {name} is {value}") for line in lines)


def test_every_case_is_recorded():
    assert set(json.loads(RECORD.read_text())) == set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_area_and_depth_have_not_grown(case):
    assert growth(json.loads(RECORD.read_text())[case], measure(case)) == []


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["features", "weights", "post.parameters.memory"])
def test_buffers_of_ultra96_are_block_rams(unit):
    config = preset("ultra96")
    result = report(config, default_device("ultra96"), unit)
    assert sum(module.area.ramb36 + module.area.ramb18 for module in result.modules) > 0
    assert misplaced(config, result) == {}


@pytest.mark.slow
def test_a_buffer_in_look_up_tables_is_found():
    """The accumulators of `tiny` are too shallow for a block RAM."""
    config = preset("tiny")
    result = report(config, default_device("tiny"), "accumulators")
    assert set(misplaced(config, result)) == {"engine.accumulators"}


@pytest.mark.slow
def test_a_buffer_in_flip_flops_is_found():
    """Block RAMs for a part of the bits are not enough."""
    config = preset("ultra96")
    result = report(config, default_device("ultra96"), "weights")
    larger = dataclasses.replace(config, weight_depth=2 * config.weight_depth)
    assert buffer_bits(larger)["engine.weights"] == 2 * buffer_bits(config)["engine.weights"]
    assert set(misplaced(larger, result)) == {"engine.weights"}
