import json

import pytest

from pliant_sim.synthesis.hierarchy import tree
from pliant_sim.synthesis.netlist import Area, UnknownCellError, cell_area, read_netlist
from pliant_sim.synthesis.parts import Box, Part
from pliant_sim.synthesis.rtlil import REGISTER


def netlist(cells, registers):
    return read_netlist(json.dumps({"modules": {"unit": {
        "ports": {},
        "cells": {name: {"type": kind, "parameters": {}, "connections": ports,
                         "port_directions": {port: "output" if port in "OQ" else "input"
                                             for port in ports}}
                  for name, (kind, ports) in cells.items()},
        "netnames": {name: {"bits": [bit], "hide_name": 0, "attributes": {REGISTER: "1"}}
                     for name, bit in registers.items()},
    }}}))


def test_luts_count_for_the_module_of_the_register_they_feed():
    cells = {
        "$a": ("LUT2", {"I0": [10], "I1": [11], "O": [20]}),
        "$b": ("LUT1", {"I0": [20], "O": [21]}),
        "$c": ("FDRE", {"D": [21], "Q": [10]}),
        "$d": ("FDRE", {"D": [20], "Q": [11]}),
        "deep.storage.0.0": ("RAMB36E2", {"ADDR": [10]}),
    }
    node = tree(Part(netlist(cells, {"walker.x": 10, "walker.inner.y": 11, "deep.z": 12}), {}, 0.0))
    assert node.total == Area(lut=2, ff=2, ramb36=1)
    assert node.at("walker").own == Area(lut=1, ff=1)
    assert node.at("walker.inner").own == Area(lut=1, ff=1)


def test_parts_count_wherever_they_stand():
    inner = Part(netlist({"$f": ("FDRE", {"D": [3], "Q": [4]})}, {"q": 4}), {}, 0.0)
    cells = {"lanes.lane_0": ("inner", {}), "lanes.lane_1": ("inner", {})}
    node = tree(Part(netlist(cells, {}), {"inner": Box(inner, {})}, 0.0))
    assert node.total == Area(ff=2)
    assert [path for path, _ in node.walk()] == ["", "lanes", "lanes.lane_0", "lanes.lane_1"]


@pytest.mark.parametrize(("kind", "area"), [
    ("LUT6", Area(lut=1)), ("INV", Area(lut=1)), ("SRLC32E", Area(lut=1, lut_shift=1)),
    ("RAM64M8", Area(lut=8, lut_memory=8)), ("RAMB18E1", Area(ramb18=1)), ("FDSE", Area(ff=1)),
    ("DSP48E2", Area(dsp=1)), ("URAM288", Area(uram=1)), ("CARRY4", Area(carry=1)),
])
def test_cells_have_an_area(kind, area):
    assert cell_area(kind) == area


def test_half_a_block_ram_counts_as_half():
    assert Area(ramb18=3, ramb36=2).block_rams == 3.5


def test_a_cell_of_unknown_cost_is_an_error():
    with pytest.raises(UnknownCellError, match=r"\$mul"):
        cell_area("$mul")
