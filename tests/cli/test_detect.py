"""The demo of the detector: what it shows, and that a difference does not pass."""

import dataclasses
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from pliant.cli import main
from pliant.commands.detect import tables
from pliant_models.detection.average_precision import Detections
from pliant_models.detection.drawing import COLUMNS, FRAME, SCALE, draw
from pliant_sim.comparison import GRAPH, RTL, SIMULATOR, Comparison, Difference
from pliant_sim.detect_demo import DetectResult


def comparison(level, *differences):
    return Comparison(level=level, images=4, tensors=90, values=123456, differences=differences)


@pytest.fixture
def result(tmp_path):
    return DetectResult(
        config="pynq_z2", network="detector", equal=True, images=4, objects=7,
        average_precision=0.875, macs=68958938,
        comparisons=tuple(comparison(level) for level in (GRAPH, SIMULATOR, RTL)),
        cycles_per_image=400000.5, array_use=0.67, clock_mhz=125,
        estimated_images_per_second=312.5, rtl_kilocycles_per_cpu_second=150.0,
        picture=tmp_path / "detector.png", seconds=100.0)


def differing(result):
    bad = comparison(RTL, Difference(level=RTL, tensor="peaks", values=1000, differing=3,
                                     detail="first at (0, 1, 2, 3): expected 4, found 5"))
    return dataclasses.replace(result, equal=False, comparisons=(*result.comparisons[:2], bad))


def shown(result, tmp_path):
    console = Console(file=io.StringIO(), width=100)
    console.print(tables(result, tmp_path))
    return " ".join(console.file.getvalue().split())


def run_with(monkeypatch, result, *arguments):
    monkeypatch.setattr("pliant_sim.detect_demo.detect", lambda *_, **__: result)
    return CliRunner().invoke(main, ["demo", "detect", *map(str, arguments)])


def test_tables_show_levels_figures_and_verdict(result, tmp_path):
    text = shown(result, tmp_path)
    for words in (GRAPH, SIMULATOR, RTL, "123,456", "0.88", "7 digits", "400,000", "67.0%", "312",
                  "(estimate)", "equal (==)"):
        assert words in text
    assert "DIFFER" not in text


def test_tables_name_layer_level_and_number_of_a_difference(result, tmp_path):
    text = shown(differing(result), tmp_path)
    assert f"{RTL}: layer 'peaks': 3 of 1000 values differ" in text
    assert "DIFFER" in text
    assert "equal (==)" not in text


def test_command_exits_0_only_when_all_is_equal(monkeypatch, result, tmp_path):
    assert run_with(monkeypatch, result, "-o", tmp_path).exit_code == 0
    assert run_with(monkeypatch, differing(result), "-o", tmp_path).exit_code == 1


def test_json_on_stdout_and_in_the_file_are_the_same(monkeypatch, result, tmp_path):
    printed = run_with(monkeypatch, result, "-o", tmp_path, "--json")
    data = json.loads(printed.stdout)
    assert data == json.loads((tmp_path / "detect.json").read_text())
    assert data["objects"] == 7


@pytest.mark.parametrize("images", ["0", "13"])
def test_numbers_of_scenes_that_are_not_offered_are_refused(images):
    assert CliRunner().invoke(main, ["demo", "detect", "--images", images]).exit_code == 2


def test_pictures_have_frames_around_certain_objects_alone(tmp_path):
    images = np.zeros((COLUMNS + 1, 20, 30, 3), np.uint8)
    one = Detections(labels=np.array([3, 4]), scores=np.array([0.9, 0.1]),
                     boxes=np.array([[4.0, 5, 12, 15], [16.0, 5, 24, 15]]))
    none = Detections(labels=np.empty(0, np.int64), scores=np.empty(0), boxes=np.empty((0, 4)))
    draw(images, [*[none] * COLUMNS, one], tmp_path / "found.png")
    picture = np.asarray(Image.open(tmp_path / "found.png"))
    assert picture.shape == (2 * 20 * SCALE, COLUMNS * 30 * SCALE, 3)
    drawn = (picture == FRAME).all(axis=2)
    assert not drawn[:20 * SCALE].any()
    rows, columns = np.nonzero(drawn)
    assert (columns.min() // SCALE, rows.max() // SCALE - 20) == (4, 15)
    assert columns.max() < 16 * SCALE


@pytest.mark.slow
def test_all_levels_compute_the_same_integers(tmp_path):
    ran = CliRunner().invoke(main, ["demo", "detect", "--images", "1", "-o", str(tmp_path),
                                    "--json"])
    assert ran.exit_code == 0, ran.output
    data = json.loads(ran.stdout)
    assert data["equal"]
    assert [level["level"] for level in data["comparisons"]] == [GRAPH, SIMULATOR, RTL]
    assert all(level["tensors"] > 90 for level in data["comparisons"])
    assert Image.open(tmp_path / "detector.png").size == (128 * SCALE, 128 * SCALE)
