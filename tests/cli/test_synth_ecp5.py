"""The table and the JSON of `pliant synth --ecp5`, of a result that needs neither program."""

import json

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant_sim.synthesis import yardstick as module
from pliant_sim.synthesis.nextpnr import NextpnrError
from pliant_sim.synthesis.placement import CELLS, CriticalPath, Placement
from pliant_sim.synthesis.yardstick import PlacedUnit, Yardstick

USED = dict(zip(CELLS, (700, 650, 33, 0, 12), strict=True))
PATH = CriticalPath(start="walker.count[4]", end="queue.level[1]", nanoseconds=8.0, routing=5.25)
UNITS = [
    PlacedUnit(path="control", seconds=21.4,
               placement=Placement(used=USED, excess={}, megahertz=125.0, path=PATH)),
    PlacedUnit(path="engine.arbiter", seconds=3.0,
               placement=Placement(used=USED, excess={}, megahertz=None, path=None)),
    PlacedUnit(path="engine.post", seconds=60.0,
               placement=Placement(used=USED, excess={"MULT18X18D": [300, 156]}, megahertz=None,
                                   path=None)),
]


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for."""
    calls = []

    def yardstick(config, device, unit, *, plain_array, progress, finished):
        calls.append((config.name, device.name, unit, plain_array))
        if unit == "post":
            raise NextpnrError("nextpnr-ecp5 failed with status 1:\nERROR: a knot")
        for placed in UNITS:
            progress(placed.path)
            finished(placed)
        return Yardstick(config=config.name, device="LFE5", yosys="Yosys 1", nextpnr="nextpnr 2",
                         array_kind="plain array", units=UNITS)

    monkeypatch.setattr(module, "yardstick", yardstick)
    return calls


def test_the_table_has_each_units_clock_and_path(asked):
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", "--ecp5"])
    assert shown.exit_code == 0, shown.output
    assert asked == [("tiny", "xc7z020", "", False)]
    lines = shown.stdout.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["control", "700", "650", "33", "", "125.0", "8.00", "5.25", PATH.start, PATH.end,
            "21"] in cells
    assert any("not a claim about any Zynq" in line for line in lines)
    assert "too big: MULT18X18D 300 of 156" in shown.stdout
    assert "no path between registers" in shown.stdout


def test_each_unit_is_told_with_its_time_as_it_is_done(asked):
    lines = CliRunner().invoke(main, ["synth", "--config", "tiny", "--ecp5"]).stderr.splitlines()
    assert "control: 125.0 MHz, 21 s" in lines
    assert "engine.post: too big: MULT18X18D 300 of 156, 60 s" in lines


def test_json_has_the_same(asked):
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", "--ecp5", "--json"])
    units = json.loads(shown.stdout)["units"]
    assert [unit["path"] for unit in units] == ["control", "engine.arbiter", "engine.post"]
    assert units[0]["placement"]["megahertz"] == 125.0
    assert units[0]["placement"]["path"]["end"] == PATH.end
    assert units[2]["placement"]["excess"] == {"MULT18X18D": [300, 156]}


def test_options_reach_the_programs_and_failures_are_one_line(asked):
    options = ["--ecp5", "--unit", "post", "--device", "zu7ev", "--plain-array", "--set", "cols=16"]
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", *options])
    assert asked == [("tiny,cols=16", "zu7ev", "post", True)]
    assert shown.exit_code == 2
    assert "nextpnr-ecp5 failed with status 1: ERROR: a knot" in shown.stderr
