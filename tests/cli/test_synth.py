"""The tables and the JSON of `pliant synth`, of a report that needs no Yosys."""

import json

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant_sim.synthesis import report as module
from pliant_sim.synthesis.depth import Path
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.parts import UnitError
from pliant_sim.synthesis.report import Module, Report, UnitDepth

PATH = Path(levels=9, start="post.lane_0.rest[1]", end="post.lane_0.sticky", start_kind="FDRE",
            end_kind="FDRE.D", through=("post.lane_0.shifted",))

AREAS = {"": Area(lut=500, ff=60, dsp=4, ramb18=3), "post": Area(lut=400, ff=60, dsp=4),
         "post.lane_0": Area(lut=200, ff=30, dsp=2), "post.lane_1": Area(lut=200, ff=30, dsp=2),
         "post.lane_1.shifter": Area(lut=77)}


@pytest.fixture
def result():
    return Report(
        config="tiny", unit="", device="xc7z020", yosys="Yosys 0.70", array_kind="packed array",
        dsp_packing="DSP48E1", seconds=12.0, area=AREAS[""], available=Area(lut=53_200, dsp=220),
        left=Area(lut=52_700, dsp=216),
        modules=[Module(path=path, area=area, memories={}) for path, area in AREAS.items()],
        array={"macs": 32, "lut": 40, "dsp": 16, "lut_per_mac": 1.25, "mac_per_dsp": 2.0},
        depths=[UnitDepth(path="post", inside=PATH, ports=None, hard_blocks=PATH)], paths=[PATH])


@pytest.fixture
def asked(monkeypatch, result):
    """What the command asks for."""
    calls = []

    def report(config, device, unit, *, plain_array, progress):
        if unit == "pots":
            raise UnitError("no single unit is called 'pots'; there are post")
        calls.append((config.name, device.name, unit, plain_array))
        return result

    monkeypatch.setattr(module, "report", report)
    return calls


def test_tables_show_area_and_paths(asked):
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny"])
    assert shown.exit_code == 0, shown.output
    assert asked == [("tiny", "xc7z020", "", False)]
    lines = shown.stdout.splitlines()
    assert any("1.25 LUT/MAC" in line and "2.00 MAC/DSP" in line for line in lines)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["core", "500", "", "60", "", "4", "1.5", ""] in cells
    assert ["left", "52700", "", "", "", "216", "", ""] in cells
    assert any("9: post.lane_0.rest[1] to" in line for line in lines)


def test_equal_numbered_modules_share_a_line(asked):
    lines = CliRunner().invoke(main, ["synth", "--config", "tiny"]).stdout.splitlines()
    assert sum("2 x lane_0" in line for line in lines) == 1
    assert not any("lane_1" in line or "shifter" in line for line in lines)


def test_json_has_everything(asked, result):
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", "--json"])
    found = json.loads(shown.stdout)
    assert found["area"]["lut"] == 500
    assert [item["path"] for item in found["modules"]] == list(AREAS)
    assert found["depths"][0]["inside"]["end"] == PATH.end
    assert found["paths"][0]["through"] == list(PATH.through)


def test_options_reach_the_report(asked):
    options = ["--unit", "post", "--device", "zu7ev", "--plain-array", "--set", "cols=16"]
    assert CliRunner().invoke(main, ["synth", "--config", "tiny", *options]).exit_code == 0
    assert asked == [("tiny,cols=16", "zu7ev", "post", True)]


@pytest.mark.parametrize(("options", "message"), [
    (["--device", "zu9"], "no device is called 'zu9'"),
    (["--unit", "pots"], "no single unit is called 'pots'"),
    (["--set", "coals=4"], "setting 'coals=4' is not FIELD=NUMBER"),
    (["--set", "cols=many"], "setting 'cols=many' is not FIELD=NUMBER"),
    (["--set", "cols=5"], "cols = 5: must be"),
    (["--config", "none"], "no configuration is called 'none'"),
])
def test_what_is_not_known_is_one_line(asked, options, message):
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", *options])
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr
