"""`build`, `compile` and `simulate`: files written, figures printed, both levels equal."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant.commands.build import build
from pliant.commands.compile import compile
from pliant.commands.simulate import InputError, check_inputs, network_inputs
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant.spec.program import load_program
from pliant_sim.single_layer import layer_graph

CONFIG = preset("tiny")


def run_json(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "sub" / "digits.pliant"
    printed = run_json("compile", "digits", "--config", "tiny", "-o", path)
    return path, printed


def test_build_writes_the_core_with_its_pins(tmp_path):
    path = tmp_path / "new" / "core.v"
    result = build(CONFIG, path)
    text = path.read_text()
    assert result.lines == text.count("\n") > 1000
    assert "module pliant_core(" in text
    for pin in ("s_axi_awvalid", "m_axi_rdata", "irq", "clk"):
        assert pin in text
    again = tmp_path / "again.v"
    assert run_json("build", "--config", "tiny", "-o", again) == {
        "path": str(again), "config": "tiny", "array": "DSP48E1",
        "fingerprint": f"{CONFIG.fingerprint:016x}", "lines": result.lines}
    assert again.read_text() == text
    assert len(re.findall(r"^  DSP48E1 ", text, re.M)) == CONFIG.rows * CONFIG.cols // 2


def test_build_can_write_a_core_for_simulators(tmp_path):
    path = tmp_path / "core.v"
    assert run_json("build", "--config", "tiny", "-o", path, "--array", "plain")["array"] == "plain"
    assert "DSP48" not in path.read_text()


def test_compile_writes_a_program_for_the_configuration(digits):
    path, printed = digits
    program = load_program(path, CONFIG)
    assert printed["network"] == program.network == "digits"
    assert printed["instructions"] == len(program.decoded())
    assert printed["macs"] == program.macs > 0
    assert printed["layers"] == len(program.layers)
    assert printed["examples"] == 0


def test_compile_writes_images_to_run_the_network_on(tmp_path):
    path = tmp_path / "new" / "examples.npz"
    printed = run_json("compile", "digits", "--config", "tiny", "-o", tmp_path / "digits.pliant",
                       "--examples", path)
    program, examples = load_program(tmp_path / "digits.pliant"), np.load(path)
    assert printed["examples"] == len(examples["images"]) == len(examples["labels"]) == 360
    assert examples["images"].shape[1:] == program.inputs[0].image_shape
    with pytest.raises(TypeError, match="give a network by its name"):
        compile(layer_graph(), CONFIG, tmp_path / "a.pliant", examples=path)


def test_compile_takes_a_graph_and_keeps_tensors_on_request(tmp_path):
    compile(layer_graph(), CONFIG, tmp_path / "a.pliant")
    compile(layer_graph(), CONFIG, tmp_path / "b.pliant", keep_tensors=True)
    (plain,) = load_program(tmp_path / "a.pliant").layers
    (kept,) = load_program(tmp_path / "b.pliant").layers
    assert plain.output is None
    assert kept.output is not None
    assert kept.output.name == "output"


def test_simulate_runs_the_networks_own_images_and_writes_outputs(digits, tmp_path):
    from pliant_models.digits import accuracy, dataset

    printed = run_json("simulate", digits[0], "--images", 360, "-o", tmp_path)
    logits = np.load(tmp_path / "classify.npy")
    assert logits.shape == (360, 10, 1, 1)
    assert accuracy(logits, dataset()[1].labels) >= 0.97
    assert printed["images"] == 360
    assert printed["outputs"][0]["path"] == str(tmp_path / "classify.npy")
    assert printed["cycles_per_image"] is None


@pytest.mark.slow
def test_both_levels_give_the_same_bytes_and_the_rtl_counts_cycles(digits, tmp_path):
    images = network_inputs(load_program(digits[0]), 3)[0]
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "image.npy", images[0])
    arguments = ["simulate", digits[0], "-i", tmp_path / "images.npy", "--level"]
    simulated, rtl = run_json(*arguments, "instruction"), run_json(*arguments, "rtl")
    assert simulated["outputs"][0]["sha256"] == rtl["outputs"][0]["sha256"]
    assert rtl["counters"]["cycles"] == pytest.approx(3 * rtl["cycles_per_image"])
    assert 0 < rtl["array_use"] < 1
    assert rtl["kilocycles_per_cpu_second"] > 0
    one = CliRunner().invoke(main, [
        "simulate", str(digits[0]), "--level", "rtl", "-i", str(tmp_path / "image.npy")])
    assert one.exit_code == 0
    assert "1 images" in one.stdout
    assert "(estimate)" in one.stdout


def test_more_images_than_there_are_is_refused(digits):
    result = CliRunner().invoke(main, ["simulate", str(digits[0]), "--images", "361"])
    assert result.exit_code == 2
    assert "1 to 360" in result.stderr


def test_inputs_of_different_numbers_of_images_are_refused(digits):
    program = load_program(digits[0])
    assert check_inputs(program, [np.zeros((4, 1, 8, 8), np.int8)]) == 4
    with pytest.raises(InputError, match="one or more"):
        check_inputs(program, [np.zeros((0, 1, 8, 8), np.int8)])
    with pytest.raises(InputError, match="int8"):
        check_inputs(program, [np.zeros((4, 1, 8, 8), np.uint8)])


def test_the_single_layer_neither_saturates_nor_vanishes():
    image = np.random.default_rng(0).integers(-128, 128, (1, 64, 28, 28), np.int8)
    output = evaluate(layer_graph(), image)["output"]
    assert len(np.unique(output)) > 50
    assert (np.abs(output.astype(int)) == 127).mean() < 0.2


def test_compile_writes_the_graph_after_every_pass(tmp_path):
    compile(layer_graph(), CONFIG, tmp_path / "c.pliant", stages=tmp_path / "stages")
    names = sorted(path.name for path in (tmp_path / "stages").iterdir())
    assert names[:2] == ["00_graph.dot", "00_graph.txt"]
    assert names[-1].endswith("_unfold_inputs.txt")
    for path in (tmp_path / "stages").glob("*.dot"):
        assert path.read_text().startswith("digraph")


def test_the_package_runs_as_the_command():
    result = subprocess.run([sys.executable, "-m", "pliant", "--version"], capture_output=True,
                            text=True, check=True)
    assert result.stdout.startswith("pliant, version ")
