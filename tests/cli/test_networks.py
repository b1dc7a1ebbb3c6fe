"""Networks by name: compiled, and run on images of their own."""

import json

from click.testing import CliRunner

from pliant.cli import main
from pliant.commands.networks import DETECTORS, IMAGENET, NETWORKS, PHOTOGRAPHS
from pliant_models import networks


def test_every_network_is_known_by_name():
    assert set(IMAGENET) == set(networks.NETWORKS)
    assert set(DETECTORS) == set(networks.DETECTORS)
    assert set(NETWORKS) == {"digits", "detector", *networks.NETWORKS, *networks.DETECTORS}


def test_compile_and_simulate_take_an_imagenet_network_and_say_that_it_takes_a_while(
    tmp_path, monkeypatch
):
    whole = networks.integer_graph
    monkeypatch.setattr(
        networks, "integer_graph",
        lambda name, *, images: whole(name, width=0.125, size=32, classes=10, images=images))
    path = str(tmp_path / "net.pliant")
    outcome = CliRunner().invoke(
        main, ["compile", "resnet18", "--config", "tiny", "-o", path, "--json"])
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["network"] == "resnet18"
    assert "quantize resnet18" in outcome.stderr
    outcome = CliRunner().invoke(main, ["simulate", path, "--images", "2", "--json"])
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["images"] == 2
    too_many = CliRunner().invoke(main, ["simulate", path, "--images", str(PHOTOGRAPHS + 1)])
    assert too_many.exit_code == 2
    assert f"1 to {PHOTOGRAPHS}" in too_many.stderr
