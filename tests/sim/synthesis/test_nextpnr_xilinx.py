"""The hook for nextpnr-xilinx, with a stand-in that checks how it is called.

The real program has not been tried: the options are those of its source, the report is what its
source prints.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant.spec.config import preset
from pliant_sim.synthesis import flow
from pliant_sim.synthesis.nextpnr import NextpnrError
from pliant_sim.synthesis.nextpnr_xilinx import Clock, find, read_clocks, route, run

NETLIST = json.dumps({"modules": {"unit": {"cells": {}, "ports": {}}}})

STAND_IN = """\
#!/usr/bin/env python3
import argparse, json, sys

if sys.argv[1:] == ["--version"]:
    sys.exit('"nextpnr-xilinx" -- Next Generation Place and Route (Version 0.8.2)')
parser = argparse.ArgumentParser()
for name in ("chipdb", "json", "top"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--freq", type=float, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--timing-allow-fail", action="store_true", required=True)
parser.add_argument("--out-of-context", action="store_true", required=True)
options = parser.parse_args()
assert options.top in json.load(open(options.json))["modules"]
if open(options.chipdb).read() == "damaged":
    sys.exit("ERROR: Unable to read chipdb")
print("Info: Packing constants..")
print("Info: Max frequency for clock   'clk': 61.00 MHz (FAIL at %.02f MHz)" % options.freq)
print("Info: Routing..")
print("Warning: Max frequency for clock   'clk': 87.53 MHz (FAIL at %.02f MHz)" % options.freq)
print("Info: Max frequency for clock 'other': 312.50 MHz (PASS at %.02f MHz)" % options.freq)
"""


@pytest.fixture
def chipdb(monkeypatch, tmp_path):
    """A database, and the stand-in on the path."""
    program = tmp_path / "bin" / "nextpnr-xilinx"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/local/bin:/usr/bin:/bin")
    database = tmp_path / "xc7z020.bin"
    database.write_text("database")
    return database


def test_the_last_report_of_each_clock_counts(chipdb, tmp_path):
    log = run(find(), NETLIST, chipdb, 125, tmp_path)
    assert read_clocks(log) == [Clock(name="clk", megahertz=87.53, target=125),
                                Clock(name="other", megahertz=312.5, target=125)]


def test_a_failure_shows_the_end_of_the_log(chipdb, tmp_path):
    chipdb.write_text("damaged")
    with pytest.raises(NextpnrError, match="status 1:\nERROR: Unable to read chipdb"):
        run(find(), NETLIST, chipdb, 125, tmp_path)


def test_a_log_without_a_clock_is_no_result():
    with pytest.raises(NextpnrError, match="no maximum frequency"):
        read_clocks("Info: Routing..\n")


def test_without_program_or_database_the_message_says_so(chipdb, monkeypatch, tmp_path):
    from pliant_sim.synthesis.devices import device

    with pytest.raises(NextpnrError, match=r"missing\.bin: no such chip database"):
        route(preset("tiny"), device("xc7z020"), "control", tmp_path / "missing.bin")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NextpnrError, match="built from source"):
        find()


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_the_command_synthesises_a_unit_for_the_device_and_shows_its_clocks(
    chipdb, monkeypatch, arguments
):
    asked = []

    def synthesis(texts, family, directory: Path, *, uram):
        asked.append((len(texts), family, uram))
        return [NETLIST]

    monkeypatch.setattr(flow, "run", synthesis)
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", "--unit", "control",
                                      "--nextpnr", str(chipdb), *arguments])
    assert shown.exit_code == 0, shown.output
    assert asked == [(1, "xc7", False)]
    if arguments:
        printed = json.loads(shown.stdout)
        assert printed["unit"] == "control"
        assert printed["clocks"][0] == {"name": "clk", "megahertz": 87.53, "target": 100.0}
        assert "Version 0.8.2" in printed["nextpnr"]
    else:
        assert "87.5" in shown.stdout
        assert "not been tried" in shown.stdout


def test_two_ways_of_placing_are_refused(chipdb):
    shown = CliRunner().invoke(main, ["synth", "--ecp5", "--nextpnr", str(chipdb)])
    assert shown.exit_code == 2


@pytest.mark.slow
def test_a_real_netlist_reaches_the_program(chipdb):
    shown = CliRunner().invoke(main, ["synth", "--config", "tiny", "--unit", "control",
                                      "--nextpnr", str(chipdb)])
    assert shown.exit_code == 0, shown.output
