"""The bench: its tables, its JSON, and that a difference does not pass."""

import dataclasses
import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from pliant.cli import main
from pliant.commands.bench import layer_table, network_table
from pliant.compiler.errors import CompileError
from pliant_sim.bench import BenchResult
from pliant_sim.comparison import RTL, SIMULATOR, Comparison, Difference
from pliant_sim.core import MemoryTiming
from pliant_sim.layer_cycles import STALLS, LayerCycles


def layer(name, kind, macs, cycles, **stalls):
    return LayerCycles(name=name, kind=kind, layers=1, macs=macs, cycles=cycles,
                       ddr_bytes=4 * cycles, estimated_cycles=cycles + 25,
                       estimate_error=25 / cycles,
                       utilization=macs / (512 * cycles), stalls={**dict.fromkeys(STALLS, 0),
                                                                  **stalls})


def comparison(level, *differences):
    return Comparison(level=level, images=1, tensors=2, values=5000, differences=differences)


@pytest.fixture
def result():
    layers = (layer("stem", "convolution", 256_000, 1000, unused=400, load=100),
              layer("pool", "maximum", 0, 250, post=250))
    return BenchResult(
        network="net", config="ultra96", macs=256_000, cycles=1250, utilization=0.4,
        bit_exact=True, rtl_seconds=0.01, rtl_kilocycles_per_second=125.0, ddr_bytes=5000,
        estimated_cycles=1300, estimate_error=0.04, median_layer_error=0.0625, layers=layers,
        memory=MemoryTiming(latency=80, bytes_per_cycle=24), clock_mhz=250,
        estimated_images_per_second=200_000.0, counters={"cycles": 1250},
        comparisons=(comparison(SIMULATOR), comparison(RTL)), instructions=9,
        compile_seconds=0.1, evaluate_seconds=0.1, simulator_seconds=0.5,
        simulator_first_seconds=0.75, float_seconds=0.1, simulator_slowdown=5.0)


def differing(result):
    bad = comparison(RTL, Difference(level=RTL, tensor="pool", values=1000, differing=3,
                                     detail="first at (0, 1, 2, 3): expected 4, found 5"))
    return dataclasses.replace(result, bit_exact=False, comparisons=(result.comparisons[0], bad))


def shown(table):
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def run_with(monkeypatch, result, *arguments):
    monkeypatch.setattr("pliant.commands.bench.imported", lambda name: (None, None))
    monkeypatch.setattr("pliant_sim.bench.bench", lambda *_, **__: result)
    monkeypatch.setattr("pliant_models.float_run.float_run", lambda name: None)
    return CliRunner().invoke(main, ["bench", *arguments])


def test_the_layer_table_shows_layers_kinds_whole_and_causes(result):
    text = shown(layer_table(result))
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for words in ("50.0%", "40.0%", "10.0%", "1,000", "1,025", "+2.5%", "4.0"):
        assert words in rows["stem"]
    assert "100.0%" in rows["pool"]
    whole = rows["whole"]
    for words in ("1,250", "1,300", "+4.0%", "40.0%", "32.0%", "8.0%", "20.0%"):
        assert words in whole
    for doc in STALLS.values():
        assert doc in text
    assert "24 bytes/cycle" in text
    assert "5,000 integers of 2 tensors on the RTL (Verilator) == integer graph" in text
    assert ("net: instruction simulator 0.50 s (first run 0.75 s), 5.0 times PyTorch float32 on "
            "one core (0.100 s)") in text


def test_the_network_table_has_a_row_for_each(result):
    text = shown(network_table([result, dataclasses.replace(result, network="other")]))
    assert text.count("40.0%") == 2
    assert text.count("all") == 2
    assert text.count("+4.0%") == text.count("6.2%") == 2


def test_json_has_the_figures(result, monkeypatch):
    outcome = run_with(monkeypatch, result, "net", "--json")
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    for key in ("network", "config", "macs", "cycles", "utilization", "bit_exact", "rtl_seconds",
                "rtl_kilocycles_per_second", "ddr_bytes", "estimated_cycles", "estimate_error",
                "median_layer_error", "simulator_seconds", "simulator_first_seconds",
                "float_seconds", "simulator_slowdown"):
        assert found[key] == getattr(result, key)
    assert found["layers"][0] == {
        "name": "stem", "kind": "convolution", "layers": 1, "macs": 256_000, "cycles": 1000,
        "utilization": 0.5, "estimated_cycles": 1025, "estimate_error": 0.025,
        "ddr_bytes": 4000, "stalls": {
            "unused": 400, "pass": 0, "load": 100, "post": 0, "store": 0, "issue": 0}}


def test_a_difference_fails_the_command_and_is_shown(result, monkeypatch):
    assert run_with(monkeypatch, result, "net").exit_code == 0
    outcome = run_with(monkeypatch, differing(result), "net")
    assert outcome.exit_code == 1
    assert "DIFFERENT" in outcome.stdout
    assert "3 of 1000 values differ" in outcome.stdout


def test_all_runs_every_network_and_fails_for_those_that_do_not_compile(result, monkeypatch):
    def imported(name):
        if name == "resnet18":
            raise CompileError("conv1", "it is too large", "make it smaller")
        return None, None

    monkeypatch.setattr("pliant.commands.bench.imported", imported)
    monkeypatch.setattr("pliant_sim.bench.bench", lambda *_, **__: result)
    outcome = CliRunner().invoke(main, ["bench", "--all", "--json"])
    assert outcome.exit_code == 2
    found = json.loads(outcome.stdout)
    assert len(found["results"]) == 3
    assert list(found["errors"]) == ["resnet18"]
    assert "it is too large" in outcome.stderr


def test_a_network_or_all_must_be_given():
    for arguments in (["bench"], ["bench", "resnet18", "--all"]):
        outcome = CliRunner().invoke(main, arguments)
        assert outcome.exit_code == 2
        assert "either a NETWORK or --all" in outcome.stderr


def test_unknown_networks_are_refused_with_the_known_names():
    outcome = CliRunner().invoke(main, ["bench", "alexnet"])
    assert outcome.exit_code == 2
    for name in ("alexnet", "vgg16", "resnet18", "resnet50", "mobilenetv2", "digits"):
        assert name in outcome.stderr
