"""The networks by name: built, quantized with calibration on photographs, exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pliant.compiler.graph import Graph
from pliant_models.export import export, input_integers, model_integers
from pliant_models.networks.mobilenet import MobileNetV2
from pliant_models.networks.resnet import resnet18, resnet50
from pliant_models.networks.vgg import VGG16
from pliant_models.networks.weights import randomise, set_batch_norm_statistics
from pliant_models.photographs import crops
from pliant_models.quantize import calibrate, quantize

SIZE = 224

WEIGHT_SEED, CALIBRATION_SEED, IMAGE_SEED = 1, 2, 3

CALIBRATION_IMAGES = 12
"""Two crops of every photograph."""

BATCH = 6


class Architecture(Protocol):
    """Makes a network of the given width, image size and number of classes."""

    def __call__(self, *, width: float, size: int, classes: int) -> nn.Module:
        """Return the network with whatever weights."""


NETWORKS: dict[str, Architecture] = {
    "vgg16": VGG16, "resnet18": resnet18, "resnet50": resnet50, "mobilenetv2": MobileNetV2,
}


@dataclass(frozen=True, eq=False)
class Imported:
    """A network on its way to the accelerator.

    `images` are int8 (images, 3, size, size), the graph's input; `integers` every tensor of the
    graph by name as the Brevitas model in float64 has it, int8 (images, channels, height, width).
    """

    graph: Graph
    images: NDArray[np.int8]
    integers: dict[str, NDArray[np.int8]]


def build(
    name: str, *, width: float = 1.0, size: int = SIZE, classes: int = 1000
) -> nn.Module:
    """Return a float network in evaluation mode, with seeded weights; `name` is in NETWORKS."""
    model = NETWORKS[name](width=width, size=size, classes=classes)
    randomise(model, WEIGHT_SEED)
    set_batch_norm_statistics(model, calibration_batches(size))
    return model


def quantized(
    name: str, *, width: float = 1.0, size: int = SIZE, classes: int = 1000
) -> fx.GraphModule:
    """Return the network quantized to int8 and calibrated on photographs."""
    model = quantize(build(name, width=width, size=size, classes=classes),
                     torch.zeros(1, 3, size, size))
    calibrate(model, calibration_batches(size))
    return model


def integer_graph(
    name: str, *, width: float = 1.0, size: int = SIZE, classes: int = 1000, images: int = 1
) -> tuple[Graph, NDArray[np.int8]]:
    """Return the integer graph and photographs to run it on, int8 (images, 3, size, size)."""
    model = quantized(name, width=width, size=size, classes=classes)
    return export(model, name=name), input_integers(model, crops(images, size, seed=IMAGE_SEED))


def golden(
    name: str, *, width: float = 1.0, size: int = SIZE, classes: int = 1000, images: int = 1
) -> Imported:
    """Return the integer graph, photographs, and the model's own integers of every layer."""
    model = quantized(name, width=width, size=size, classes=classes)
    graph = export(model, name=name)
    integers = model_integers(model, crops(images, size, seed=IMAGE_SEED))
    return Imported(graph=graph, images=integers[graph.inputs[0].name], integers=integers)


def calibration_batches(size: int) -> list[Tensor]:
    """Return the photographs that networks are calibrated on, float32 (images, 3, size, size)."""
    images = crops(CALIBRATION_IMAGES, size, seed=CALIBRATION_SEED)
    return list(torch.split(images, BATCH))  # type: ignore[no-untyped-call]
