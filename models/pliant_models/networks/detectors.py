"""CoDeNet by name: seeded weights of 4 bits, quantized on photographs, peaks on the engine."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from pliant.compiler.graph import Graph
from pliant_models.export import export, input_integers, model_integers
from pliant_models.networks.codenet import CONFIGURATIONS, VOC_CLASSES, CoDeNet, codenet, layer_bits
from pliant_models.networks.peaks import append_peaks
from pliant_models.networks.weights import randomise, set_batch_norm_statistics
from pliant_models.networks.zoo import (
    IMAGE_SEED,
    WEIGHT_SEED,
    Imported,
    calibration_batches,
)
from pliant_models.photographs import crops
from pliant_models.quantize import calibrate, quantize

DETECTORS = {f"codenet_{name}{suffix}": (name, interpolate)
             for suffix, interpolate in (("", True), ("_nearest", False))
             for name in CONFIGURATIONS}
"""Names of the published configurations, and whether their taps are interpolated."""


def quantize_detector(
    network: CoDeNet, size: int, *, input_scale: float | None = None
) -> fx.GraphModule:
    """Return a CoDeNet with int4 weights but in the stem, to be calibrated."""
    return quantize(network, torch.zeros(1, 3, size, size), input_scale=input_scale,
                    layer_bits=layer_bits(network))


def export_detector(model: fx.GraphModule, *, name: str) -> Graph:
    """Return the integer graph: outputs are peaks, sizes and shifts."""
    graph = export(model, name=name)
    return append_peaks(graph, graph.outputs[0])


def random_detector(network: CoDeNet, size: int) -> fx.GraphModule:
    """Return a CoDeNet with seeded weights, quantized, calibrated on photographs."""
    batches = calibration_batches(size)
    randomise(network, WEIGHT_SEED)
    set_batch_norm_statistics(network, batches)
    model = quantize_detector(network, size)
    calibrate(model, batches)
    return model


def detector_graph(
    name: str, *, classes: int = VOC_CLASSES, images: int = 1
) -> tuple[Graph, NDArray[np.int8]]:
    """Return the integer graph and photographs to run it on, int8 (images, 3, size, size).

    `name` is in DETECTORS.
    """
    network, size = named_detector(name, classes=classes)
    model = random_detector(network, size)
    photographs = crops(images, size, seed=IMAGE_SEED)
    return export_detector(model, name=name), input_integers(model, photographs)


def golden_detector(name: str, *, classes: int = VOC_CLASSES, images: int = 1) -> Imported:
    """Return the integer graph, photographs, and the model's own integers of its layers.

    The model does not compute the peaks.
    """
    network, size = named_detector(name, classes=classes)
    model = random_detector(network, size)
    graph = export_detector(model, name=name)
    integers = model_integers(model, crops(images, size, seed=IMAGE_SEED))
    return Imported(graph=graph, images=integers[graph.inputs[0].name], integers=integers)


def named_detector(name: str, *, classes: int = VOC_CLASSES) -> tuple[CoDeNet, int]:
    """Return one of DETECTORS in float, with whatever PyTorch initialises, and its images' side."""
    configuration, interpolate = DETECTORS[name]
    return (codenet(configuration, classes=classes, interpolate=interpolate),
            CONFIGURATIONS[configuration].size)
