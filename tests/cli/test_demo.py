"""The demo: what it compares, what it writes, and that a difference does not pass."""

import dataclasses
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from pliant.cli import main
from pliant.commands.demo import ProgressDisplay, tables
from pliant.spec.config import preset
from pliant_sim.comparison import GRAPH, MODEL, RTL, SIMULATOR, Comparison, Difference
from pliant_sim.demo import DemoResult, Level
from pliant_sim.single_layer import SingleLayer


def comparison(level, *differences):
    return Comparison(level=level, images=100, tensors=9, values=1000, differences=differences)


@pytest.fixture
def result(tmp_path):
    return DemoResult(
        config="pynq_z2", network="digits", equal=True, layers=9, macs=301760,
        levels=(Level(name=MODEL, images=360, accuracy=0.99, comparison=None),
                Level(name=GRAPH, images=360, accuracy=0.99, comparison=comparison(GRAPH)),
                Level(name=RTL, images=100, accuracy=0.98, comparison=comparison(RTL))),
        cycles_per_image=6000.5, array_use=0.2, clock_mhz=125, estimated_images_per_second=20831.6,
        rtl_kilocycles_per_cpu_second=800.0, seconds=30.0, trace=tmp_path / "digits.pftrace",
        single_layer=SingleLayer(layer="64->64", bytes_per_cycle=16, latency=60, macs=1,
                                 cycles=1000, array_use=0.9, weight_bytes=36864,
                                 kilocycles_per_cpu_second=900.0, equal=True),
    )


def differing(result):
    bad = comparison(RTL, Difference(level=RTL, tensor="pool", values=1000, differing=3,
                                     detail="first at (0, 1, 2, 3): expected 4, found 5"))
    levels = (*result.levels[:-1], dataclasses.replace(result.levels[-1], comparison=bad))
    return dataclasses.replace(result, equal=False, levels=levels)


def shown(result, tmp_path):
    console = Console(file=io.StringIO(), width=100)
    console.print(tables(result, tmp_path))
    return console.file.getvalue()


def run_with(monkeypatch, result, *arguments):
    monkeypatch.setattr("pliant_sim.demo.demo", lambda *_, **__: result)
    return CliRunner().invoke(main, ["demo", *map(str, arguments)])


def test_tables_show_levels_figures_and_verdict(result, tmp_path):
    text = shown(result, tmp_path)
    for words in (MODEL, GRAPH, RTL, "99.00%", "98.00%", "1,000", "6,000", "20.0%", "800",
                  "(estimate)", "20,832", "90.0%", "2,000 integers", "equal (==)",
                  "ui.perfetto.dev"):
        assert words in text
    assert "DIFFER" not in text


def test_tables_name_layer_level_and_number_of_a_difference(result, tmp_path):
    text = " ".join(shown(differing(result), tmp_path).split())
    assert f"{RTL}: layer 'pool': 3 of 1000 values differ" in text
    assert "DIFFER" in text
    assert "equal (==)" not in text


def test_command_exits_0_only_when_all_is_equal(monkeypatch, result, tmp_path):
    assert run_with(monkeypatch, result, "-o", tmp_path).exit_code == 0
    assert run_with(monkeypatch, differing(result), "-o", tmp_path).exit_code == 1


def test_json_on_stdout_and_in_the_file_are_the_same(monkeypatch, result, tmp_path):
    printed = run_with(monkeypatch, result, "-o", tmp_path, "--json")
    data = json.loads(printed.stdout)
    assert data == json.loads((tmp_path / "demo.json").read_text())
    assert data["levels"][2]["comparison"]["values"] == 1000
    assert data["trace"] == str(result.trace)


@pytest.mark.parametrize("images", ["99", "361", "all"])
def test_numbers_of_images_that_are_not_offered_are_refused(images):
    assert CliRunner().invoke(main, ["demo", "--images", images]).exit_code == 2


def test_progress_is_lines_where_there_is_no_terminal():
    console = Console(file=io.StringIO(), width=80)
    with ProgressDisplay(console) as display:
        for done in range(4):
            display.report("run the RTL", done, 3)
    first, last = console.file.getvalue().splitlines()
    assert first == "run the RTL ..."
    assert last.startswith("run the RTL: 3 done in ")


@pytest.fixture(scope="module")
def trained():
    from pliant_models import digits

    return digits.golden()


@pytest.mark.slow
def test_all_levels_compute_the_same_integers_on_the_smallest_configuration(tmp_path):
    ran = CliRunner().invoke(main, ["demo", "--config", "tiny", "-o", str(tmp_path), "--json"])
    assert ran.exit_code == 0, ran.output
    data = json.loads(ran.stdout)
    assert data["equal"]
    assert [level["name"] for level in data["levels"]] == [MODEL, GRAPH, SIMULATOR, RTL]
    assert [level["images"] for level in data["levels"]] == [360, 360, 360, 100]
    assert all(level["accuracy"] >= 0.97 for level in data["levels"])
    for level in data["levels"][1:]:
        assert level["comparison"]["tensors"] >= data["layers"]
    assert 0 < data["array_use"] < data["single_layer"]["array_use"] < 1
    assert data["cycles_per_image"] > data["macs"] / preset("tiny").peak_macs_per_cycle
    assert (tmp_path / "digits.pftrace").stat().st_size > 1000


@pytest.mark.slow
def test_one_wrong_integer_of_the_model_fails_the_demo_at_every_level(
    monkeypatch, tmp_path, trained
):
    from pliant_models import digits

    integers = {name: value.copy() for name, value in trained.integers.items()}
    integers["pool"][7, 3, 1, 2] ^= 1
    wrong = dataclasses.replace(trained, integers=integers)
    monkeypatch.setattr(digits, "golden", lambda: wrong)
    ran = CliRunner().invoke(main, ["demo", "--config", "tiny", "-o", str(tmp_path), "--json"])
    assert ran.exit_code == 1, ran.output
    data = json.loads(ran.stdout)
    assert not data["equal"]
    for level in data["levels"][1:]:
        differences = level["comparison"]["differences"]
        assert {item["tensor"] for item in differences} == {"pool"}
        assert all(item["differing"] == 1 for item in differences)


def test_every_layer_of_the_graph_is_compared(trained):
    from pliant_sim.demo import variants

    shipped, kept, single = variants(trained.graph, preset("pynq_z2"))
    layers = {node.output.name for node in trained.graph.nodes}
    assert set(single.tensors) == layers
    assert set(kept.tensors) <= layers
    assert set(trained.graph.outputs) == set(shipped.tensors)
    stored = {layer.output.name for layer in single.program.layers}
    assert stored == layers
    assert all(np.issubdtype(value.dtype, np.int8) for value in trained.integers.values())
