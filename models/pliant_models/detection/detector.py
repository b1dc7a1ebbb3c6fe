"""The trained detector: CoDeNet 1x for digits in scenes, int4 weights but in the stem."""

from __future__ import annotations

from pathlib import Path

from torch import fx

from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant_models import packing
from pliant_models.detection.average_precision import mean_average_precision
from pliant_models.detection.decoding import decode_integers
from pliant_models.detection.scenes import CLASSES, INPUT_SCALE, SIZE, Scenes
from pliant_models.networks.codenet import CoDeNet
from pliant_models.networks.detectors import export_detector, quantize_detector

WEIGHTS = Path(__file__).parent.parent / "data" / "detector.safetensors"

NAME = "detector"


def quantized(network: CoDeNet) -> fx.GraphModule:
    """Return the network ready to be calibrated for scenes, or to load weights into."""
    return quantize_detector(network, SIZE, input_scale=INPUT_SCALE)


def load(path: Path = WEIGHTS) -> fx.GraphModule:
    """Return the trained quantized model, in evaluation mode."""
    model = quantized(CoDeNet(classes=CLASSES))
    packing.load(model, path)
    return model


def detector(path: Path = WEIGHTS) -> Graph:
    """Return the integer graph of the trained model; outputs are peaks, sizes and shifts."""
    return export_detector(load(path), name=NAME)


def output_scales(graph: Graph) -> list[float]:
    """Return the real value of a step of each output."""
    tensors = graph.tensors()
    return [tensors[name].scale for name in graph.outputs]


def integer_score(graph: Graph, scenes: Scenes) -> float:
    """Return the AP50 of the integer graph on scenes."""
    values = evaluate(graph, scenes.images)
    found = decode_integers(output_scales(graph), [values[name] for name in graph.outputs])
    return mean_average_precision(found, scenes.boxes, scenes.labels, CLASSES)
