import json

import pytest

from pliant_sim.synthesis.netlist import read_netlist
from pliant_sim.synthesis.nextpnr import NextpnrError
from pliant_sim.synthesis.placement import CELLS, CriticalPath, overfull, read_placement
from pliant_sim.synthesis.rtlil import REGISTER

CLOCK = "posedge clk"


def step(kind, delay, start, end):
    places = [dict(zip(("cell", "port"), place.split(":"), strict=True)) for place in (start, end)]
    return {"type": kind, "delay": delay, "from": places[0], "to": places[1]}


def cell(kind, outputs):
    return {"type": kind, "parameters": {}, "connections": outputs,
            "port_directions": dict.fromkeys(outputs, "output")}


@pytest.fixture
def netlist():
    return read_netlist(json.dumps({"modules": {"unit": {
        "ports": {},
        "cells": {"count_TRELLIS_FF_Q_1": cell("TRELLIS_FF", {"Q": [5]}),
                  "nest_TRELLIS_FF_Q": cell("TRELLIS_FF", {"Q": [9]}),
                  "walker$3.store$7.0.0": cell("DP16KD", {"DOA0": [6], "DOA1": [7]})},
        "netnames": {"walker$3.count": {"bits": [4, 5], "hide_name": 0,
                                        "attributes": {REGISTER: "1"}},
                     "walker$3.nest": {"bits": [9], "hide_name": 0, "attributes": {}}},
    }}}))


@pytest.fixture
def content():
    steps = [step("clk-to-q", 0.5, "count_TRELLIS_FF_Q_1:Q", "count_TRELLIS_FF_Q_1:Q"),
             step("routing", 1.25, "count_TRELLIS_FF_Q_1:Q", "sum$CCU2_COMB0:A"),
             step("logic", 0.25, "sum$CCU2_COMB0:A", "sum$CCU2_COMB0:F"),
             step("routing", 1.75, "sum$CCU2_COMB0:F", "walker$3.store$7.0.0:ADA3"),
             step("setup", 0.25, "walker$3.store$7.0.0:ADA3", "walker$3.store$7.0.0:ADA3")]
    from_port = [step("routing", 9.0, "other:Q", "other:D")]
    return {
        "fmax": {"clk": {"achieved": 250.0, "constraint": 400.0}},
        "critical_paths": [{"from": "<async>", "to": CLOCK, "path": from_port},
                           {"from": CLOCK, "to": CLOCK, "path": steps}],
        "utilization": {name: {"used": 3 + place, "available": 100}
                        for place, name in enumerate(CELLS.values())},
    }


def test_frequency_cells_and_path_are_read(content, netlist):
    placement = read_placement(json.dumps(content), netlist)
    assert placement.megahertz == 250.0
    assert placement.used == {key: 3 + place for place, key in enumerate(CELLS)}
    assert placement.excess == {}
    assert placement.path == CriticalPath(start="walker.count[1]", end="walker.store.0.0.ADA3",
                                          nanoseconds=4.0, routing=3.0)


def test_a_flip_flop_has_the_name_of_any_wire_it_drives(content, netlist):
    content["critical_paths"][1]["path"][-1]["to"] = {"cell": "nest_TRELLIS_FF_Q", "port": "CE"}
    assert read_placement(json.dumps(content), netlist).path.end == "walker.nest"


def test_the_slowest_of_several_clocks_counts(content, netlist):
    content["fmax"]["bus"] = {"achieved": 90.0}
    content["critical_paths"].append({
        "from": "posedge bus", "to": "posedge bus",
        "path": [step("clk-to-q", 11.0, "sum$CCU2_COMB0:F", "count_TRELLIS_FF_Q_1:D")]})
    placement = read_placement(json.dumps(content), netlist)
    assert placement.megahertz == 90.0
    assert (placement.path.start, placement.path.end) == ("sum.F", "walker.count[1]")


def test_a_unit_without_registers_has_no_clock(content, netlist):
    content.update(fmax={}, critical_paths=[])
    placement = read_placement(json.dumps(content), netlist)
    assert placement.megahertz is None
    assert placement.path is None


def remove(key):
    return lambda content: content.pop(key)


@pytest.mark.parametrize(("damage", "message"), [
    (remove("fmax"), "not understood: KeyError: 'fmax'"),
    (remove("utilization"), "not understood: KeyError: 'utilization'"),
    (lambda content: content["utilization"].pop("MULT18X18D"), "KeyError: 'MULT18X18D'"),
    (remove("critical_paths"), "not understood: KeyError: 'critical_paths'"),
    (lambda content: content["critical_paths"].pop(), "no critical path of clock 'clk'"),
    (lambda content: content["critical_paths"][1].update(path=[]), "IndexError"),
    (lambda content: content["critical_paths"][1]["path"][0].update(delay="x"), "ValueError"),
    (lambda content: content["fmax"]["clk"].update(achieved=float("nan")), "clocks of"),
    (lambda content: content["fmax"]["clk"].update(achieved=0), "clocks of"),
])
def test_a_report_that_lacks_something_is_refused(content, netlist, damage, message):
    damage(content)
    with pytest.raises(NextpnrError, match=message):
        read_placement(json.dumps(content), netlist)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_report_is_refused(netlist, text):
    with pytest.raises(NextpnrError, match="the report of nextpnr is not understood"):
        read_placement(text, netlist)


LOG = """\
Info: Device utilisation:
Info: \t          TRELLIS_IO:       0/    365     0%
Info: \t          MULT18X18D:     {multipliers}/    156   192%
Info: \t        TRELLIS_COMB:    1082/  83640     1%

ERROR: Unable to place cell
"""


def test_a_unit_with_more_cells_than_the_device_is_too_big():
    placement = overfull(LOG.format(multipliers=300))
    assert placement.excess == {"MULT18X18D": [300, 156]}
    assert (placement.used["multiplier"], placement.used["lut"]) == (300, 1082)
    assert placement.megahertz is None


@pytest.mark.parametrize("log", ["", LOG.format(multipliers=156)])
def test_a_failure_with_room_left_is_not_size(log):
    assert overfull(log) is None
