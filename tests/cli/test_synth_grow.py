"""The tables and the JSON of `pliant synth --grow`, of reports that need no Yosys."""

import json

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant_sim.synthesis import growth as module
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.report import Module, Report


@pytest.fixture
def asked(monkeypatch):
    """Names of the configurations that were synthesised: two LUTs a column, a RAMB18 a row."""
    calls = []

    def report(config, device, unit, *, plain_array, progress):
        calls.append((config.name, device.name, unit, plain_array, config.board.dsp_slices))
        progress("2 modules")
        matrix, weights = Area(lut=2 * config.cols, dsp=8), Area(ramb18=config.rows)
        areas = {"": matrix + weights, "engine": matrix + weights, "engine.matrix": matrix,
                 "engine.weights": weights}
        return Report(
            config=config.name, unit=unit, device=device.name, yosys="Yosys 1",
            array_kind="packed array", dsp_packing=device.dsp_slice, seconds=1.0, area=areas[""],
            available=Area(lut=53_200, dsp=220, ramb36=140), left=Area(),
            modules=[Module(path=path, area=area, memories={}) for path, area in areas.items()],
            array={"macs": config.rows * config.cols, "lut_per_mac": 1.25, "mac_per_dsp": 2.0},
            depths=[], paths=[])

    monkeypatch.setattr(module, "report", report)
    return calls


def run(*options):
    return CliRunner().invoke(main, ["synth", "--config", "tiny", *options])


def cells(shown):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines()]


def test_the_table_has_a_row_for_each_value_with_its_change(asked):
    shown = run("--grow", "cols=8,16")
    assert shown.exit_code == 0, shown.output
    assert [call[0] for call in asked] == ["tiny", "tiny,cols=16"]
    rows = cells(shown)
    assert ["8", "16", "", "", "8", "2", "", "0.50", "4.00", "1.25", "2.00", "0"] in rows
    row = rows.index(["16", "32", "", "", "8", "2", "", "0.50", "8.00", "1.25", "2.00", "0"])
    assert rows[row + 1] == ["", "+16, +100.0%", *[""] * 10]
    assert ["device", "53200", "", "", "220", "140", "", "", "", "", "", ""] in rows


def test_the_table_names_the_units_that_change_and_no_others(asked):
    rows = cells(run("--grow", "cols=8,16"))
    assert ["8 to 16", "engine.matrix", "+16", "", "", "", "", ""] in rows
    assert not any("engine.weights" in row for row in rows)


def test_fields_are_varied_one_at_a_time_about_the_configuration(asked):
    shown = run("--grow", "cols=8,16", "--grow", "rows=8,4", "--set", "parameter_depth=128")
    assert shown.exit_code == 0, shown.output
    base = "tiny,parameter_depth=128"
    assert [call[0] for call in asked] == [base, f"{base},cols=16", f"{base},rows=8"]
    rows = cells(shown)
    row = rows.index(["8", "16", "", "", "8", "4", "", "0.25", "8.00", "1.25", "2.00", "0"])
    assert rows[row + 1] == ["", "", "", "", "", "+2, +100.0%", *[""] * 6]
    assert ["8 to 4", "engine.weights", "", "", "", "", "-2", ""] in rows


def test_a_value_brings_other_fields_along(asked):
    shown = run("--grow", "cols=4:axi_data_bytes=4,8")
    assert shown.exit_code == 0, shown.output
    assert asked[0][0] == "tiny,cols=4,axi_data_bytes=4"
    assert any(row[0] == "4:axi_data_bytes=4" for row in cells(shown) if row)


def test_the_dsp_slices_of_the_board_are_a_field(asked):
    assert run("--grow", "dsp_slices=40,180").exit_code == 0
    assert [call[4] for call in asked] == [40, 180]


def test_json_has_the_same(asked):
    sweep, = json.loads(run("--grow", "cols=16,8", "--json").stdout)["sweeps"]
    assert (sweep["field"], sweep["values"], sweep["reference"]) == ("cols", ["16", "8"], 1)
    assert [item["change"]["lut"] for item in sweep["variants"]] == [16, 0]
    assert sweep["variants"][1]["steps"]["engine.matrix"]["lut"] == -16
    assert sweep["variants"][0]["units"]["engine.weights"]["ramb18"] == 4


def test_options_reach_every_report(asked):
    assert run("--grow", "cols=8,16", "--unit", "matrix", "--device", "k26",
               "--plain-array").exit_code == 0
    assert [call[1:4] for call in asked] == [("k26", "matrix", True)] * 2


@pytest.mark.parametrize(("options", "message"), [
    (["--grow", "cols=8,4"], "axi_data_bytes = 8: must be rows (4) or twice that, and at most cols "
                             "(4); a value can bring other fields along: cols=4:FIELD=NUMBER"),
    (["--grow", "cols=8,5"], "cols = 5: must be rows (4), twice or four times that"),
    (["--grow", "coals=8,16"], "setting 'coals=8' is not FIELD=NUMBER; fields: rows, cols"),
    (["--grow", "cols=8,16:clock=4"], "setting 'clock=4' is not FIELD=NUMBER"),
    (["--grow", "cols=8"], "two different values or more"),
    (["--grow", "cols=8,8"], "two different values or more"),
    (["--grow", "cols"], "two different values or more"),
    (["--grow", "cols=8,16", "--grow", "cols=16,8"], "--grow has field 'cols' twice"),
    (["--grow", "cols=8,16", "--ecp5"], "give one of --ecp5, --nextpnr and --grow"),
])
def test_what_cannot_be_varied_is_one_line_before_anything_is_synthesised(asked, options, message):
    shown = run(*options)
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr
    assert asked == []
