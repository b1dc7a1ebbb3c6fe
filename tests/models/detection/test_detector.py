import numpy as np
import pytest
import torch

from pliant.compiler.graph import DeformableConvolution
from pliant.compiler.reference import evaluate
from pliant_models import packing
from pliant_models.detection import detector
from pliant_models.detection.losses import loss, targets
from pliant_models.detection.scenes import CLASSES, SIZE, scenes
from pliant_models.detection.train import (
    FLOAT_SCORE,
    HELD_OUT,
    HELD_OUT_SEED,
    fine_tune,
    fit,
    fit_backbone,
    float_score,
)
from pliant_models.export import model_integers
from pliant_models.networks.codenet import CoDeNet
from pliant_models.networks.detectors import export_detector

LARGEST_LOSS = 0.03
"""Of AP50 by quantization."""


@pytest.fixture(scope="module")
def trained():
    model = detector.load()
    return model, export_detector(model, name="detector")


def test_brevitas_in_float64_equals_the_integer_graph_in_every_layer(trained):
    model, graph = trained
    drawn = scenes(9, 3)
    expected = model_integers(model, drawn.real())
    found = evaluate(graph, drawn.images)
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
        assert len(np.unique(value)) > 4, f"{tensor} hardly uses int8"


def test_the_file_is_below_a_megabyte_and_its_float_network_good():
    assert detector.WEIGHTS.stat().st_size < 1_000_000
    assert float(packing.notes(detector.WEIGHTS)[FLOAT_SCORE]) >= 0.8


def test_shipped_weights_lose_little_by_quantization_on_some_scenes(trained):
    score = detector.integer_score(trained[1], scenes(HELD_OUT_SEED, 48))
    assert score >= 0.75


@pytest.mark.slow
def test_shipped_weights_lose_at_most_3_percent_by_quantization(trained):
    unquantized = float(packing.notes(detector.WEIGHTS)[FLOAT_SCORE])
    score = detector.integer_score(trained[1], scenes(HELD_OUT_SEED, HELD_OUT))
    assert score >= unquantized - LARGEST_LOSS


def test_dilations_were_learned(trained):
    _, graph = trained
    values = evaluate(graph, scenes(9, 3).images)
    for node in graph.nodes:
        if isinstance(node, DeformableConvolution):
            assert len(np.unique(values[node.inputs[1]])) > 4


def losses(reports: list[str]) -> list[float]:
    return [float(report.split()[3].rstrip(",")) for report in reports]


def test_the_recipe_learns_in_float_and_with_quantizers(monkeypatch):
    for name, value in {"BATCH": 4, "SMALL_BATCH": 8, "REPORTED": 25}.items():
        monkeypatch.setattr(f"pliant_models.detection.train.{name}", value)
    torch.manual_seed(1)
    network = CoDeNet(channels=(8, 16, 32, 48, 64), classes=CLASSES)
    named: list[str] = []
    before = network.backbone[0].conv.weight.clone()
    fit_backbone(network.backbone, 50, report=named.append)
    assert len(losses(named)) == 2
    assert not torch.equal(before, network.backbone[0].conv.weight)
    reports: list[str] = []
    fit(network, 75, rate=3e-3, seed=1, report=reports.append)
    assert losses(reports)[2] < 0.7 * losses(reports)[0]

    drawn = scenes(1, 8, held_out=False)
    wanted = targets(drawn.boxes, drawn.labels, classes=CLASSES, size=SIZE)

    def score(model):
        with torch.no_grad():
            return float(loss(*model(drawn.real()), wanted))

    model = fine_tune(network, steps=2, rate=1e-5, report=reports.append)
    assert score(model) < 1.5 * score(network)
    assert 0 <= float_score(model, drawn) <= 1
