"""`pliant build --board`: files written, a bitstream recorded, and what is stale refused."""

import json
import shutil

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant.commands import build as module
from pliant.commands.build import BuildResult
from pliant.driver.manifest import read_manifest
from pliant.spec.config import preset
from pliant.spec.platform import PLATFORMS
from pliant_hw.board.boards import BOARDS
from pliant_hw.board.ports import LEFT_OPEN
from pliant_sim.synthesis.devices import default_device
from pliant_sim.vivado.vivado import Vivado


@pytest.fixture
def quick(monkeypatch):
    """The core's Verilog takes minutes: here it is empty."""

    def verilog(config, path, array="packed", ports=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("module pliant_core; endmodule\n")
        return BuildResult(path=path, config=config.name, array=default_device(
            config.name).dsp_slice, fingerprint=f"{config.fingerprint:016x}", lines=1)

    monkeypatch.setattr(module, "build", verilog)


def pliant(*arguments):
    return CliRunner().invoke(main, [str(word) for word in arguments])


def implement(directory, board="ultra96"):
    if shutil.which("tclsh") is None:
        pytest.skip("needs tclsh")
    part = BOARDS[board].board_part.replace("*", "maker", 1).replace("*", "part0:1.0")
    Vivado(board_parts=[part], open_pins=frozenset(f"pliant_core_0/{name}" for name in LEFT_OPEN)
           ).run(directory / "build.tcl")


@pytest.fixture
def built(quick, tmp_path):
    """A directory that Vivado has been through."""
    directory = tmp_path / "out"
    assert pliant("build", "--board", "ultra96", "-o", directory).exit_code == 0
    implement(directory)
    return directory


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_board_gets_its_configuration_and_its_dsps(quick, tmp_path, name):
    shown = pliant("build", "--board", name, "-o", tmp_path / name, "--json")
    assert shown.exit_code == 0, shown.output
    printed = json.loads(shown.stdout)
    config = PLATFORMS[name].config
    assert printed["config"] == config.name
    assert printed["fingerprint"] == f"{config.fingerprint:016x}"
    assert printed["array"] == ("DSP48E1" if PLATFORMS[name].family == "zynq" else "DSP48E2")
    assert sorted(printed["files"]) == sorted(
        str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")
        if path.is_file())
    assert read_manifest(tmp_path / name).config == config
    read = (tmp_path / name / "README.md").read_text()
    assert f"pliant_{name}.bit" in read


def test_the_default_directory_is_the_boards(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = pliant("build", "--board", "kv260")
    assert "build/kv260: 11 files for kv260" in shown.stdout
    assert "vivado -mode batch -source build/kv260/build.tcl" in shown.stdout


def test_two_builds_are_equal(quick, tmp_path):
    for name in ("a", "b"):
        pliant("build", "--board", "kv260", "-o", tmp_path / name)
    assert read_manifest(tmp_path / "a") == read_manifest(tmp_path / "b")


def test_a_bitstream_is_recorded(built):
    shown = pliant("build", "--board", "ultra96", "-o", built, "--record", "--json")
    assert shown.exit_code == 0, shown.output
    manifest = read_manifest(built)
    assert manifest.document() == json.loads(shown.stdout)
    assert manifest.bitstream.tool_version == "2024.1"
    assert manifest.bitstream.setup_slack_ns == 0.05
    assert manifest.check_bitstream() == built / "pliant_ultra96.bit"
    manifest.check(preset("ultra96"))
    # Another build starts anew.
    pliant("build", "--board", "ultra96", "-o", built)
    assert read_manifest(built).bitstream is None


def refused(built, message, board="ultra96"):
    shown = pliant("build", "--board", board, "-o", built, "--record")
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert read_manifest(built).bitstream is None


def test_changed_sources_are_not_recorded(built):
    (built / "constraints.xdc").write_text("# another\n")
    refused(built, "constraints.xdc changed since pliant build")


def test_a_bitstream_of_other_sources_is_not_recorded(built, monkeypatch):
    monkeypatch.setattr("pliant_hw.board.project.constraints", lambda: "# another\n")
    pliant("build", "--board", "ultra96", "-o", built)
    refused(built, "result.json is of other sources")


@pytest.mark.parametrize(("change", "message"), [
    ({"setup_slack_ns": -0.01}, "misses its clock"),
    ({"hold_slack_ns": float("nan")}, "misses its clock"),
    ({"tool": None}, "field 'tool' is missing or of the wrong kind"),
])
def test_a_result_that_is_none_is_not_recorded(built, change, message):
    result = json.loads((built / "result.json").read_text())
    (built / "result.json").write_text(json.dumps({**result, **change}))
    refused(built, message)


def test_missing_files_and_other_boards_are_told(built):
    refused(built, "is of board 'ultra96', not 'kv260'", board="kv260")
    (built / "pliant_ultra96.hwh").unlink()
    refused(built, "pliant_ultra96.hwh: No such file")
    (built / "result.json").unlink()
    refused(built, "result.json: No such file")


def test_options_that_do_not_go_together_are_refused(quick):
    assert "no board is called 'zedboard'; known: ultra96" in pliant(
        "build", "--board", "zedboard").stderr
    for words in (("--board", "kv260", "--config", "tiny"), ("--record",),
                  ("--board", "kv260", "--array", "plain")):
        assert pliant("build", *words).exit_code == 2


@pytest.mark.slow
def test_the_verilog_of_a_board_is_written_for_real(tmp_path):
    directory = tmp_path / "out"
    assert pliant("build", "--board", "pynq_z2", "-o", directory).exit_code == 0
    text = (directory / "ip/pliant_core/hdl/pliant_core.v").read_text()
    assert "DSP48E1" in text
    assert "DSP48E2" not in text
    implement(directory, "pynq_z2")
    assert pliant("build", "--board", "pynq_z2", "-o", directory, "--record").exit_code == 0


def test_a_file_in_place_of_the_directory_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "build", lambda *_: pytest.fail("made Verilog"))
    (tmp_path / "file").touch()
    result = pliant("build", "--board", "ultra96", "-o", tmp_path / "file")
    assert result.exit_code == 2, result.output
    assert "File exists" in result.stderr
