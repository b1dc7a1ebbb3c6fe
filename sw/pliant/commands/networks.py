"""Networks that commands know by name: their integer graph and images to run them on."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pliant.compiler.graph import Graph


class UnknownNetworkError(ValueError):
    """No network has that name; the message lists those that there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network by name.

    Attributes
    ----------
    graph : function that returns the network's integer graph
    images : function that returns images to run it on, int8 (images, channels, height, width), and
        their labels, int64 (images,), or None where there are none
    """

    graph: Callable[[], Graph]
    images: Callable[[], tuple[NDArray[np.int8], NDArray[np.int64] | None]]


def _digits_graph() -> Graph:
    from pliant_models import digits

    return digits.graph()


def _digits_images() -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    from pliant_models import digits

    _, held_out = digits.dataset()
    return held_out.images, held_out.labels


def _detector_graph() -> Graph:
    from pliant_models.detection.detector import detector

    return detector()


def _detector_images() -> tuple[NDArray[np.int8], None]:
    from pliant_models.detection.scenes import scenes

    return scenes(SCENES_SEED, SCENES).images, None


def calibrated(name: str, images: int) -> tuple[Graph, NDArray[np.int8]]:
    """Return the integer graph and photographs of one of CALIBRATED."""
    # Set before PyTorch is imported: its threads would fight over few cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from pliant_models import networks

    make = networks.detector_graph if name in DETECTORS else networks.integer_graph
    return make(name, images=images)


def _announced(name: str, images: int) -> tuple[Graph, NDArray[np.int8]]:
    """Return the same; it takes 4 to 50 seconds, and tells so on stderr."""
    console = Console(stderr=True)
    message = f"quantize {name} on photographs and export it (seconds to a minute)"
    if not console.is_terminal:
        console.print(message, soft_wrap=True)
    with console.status(message):
        return calibrated(name, images)


def _calibrated_graph(name: str) -> Graph:
    return _announced(name, 1)[0]


def _calibrated_images(name: str) -> tuple[NDArray[np.int8], None]:
    return _announced(name, PHOTOGRAPHS)[1], None


PHOTOGRAPHS = 12
"""Images that each network calibrated on photographs has."""

SCENES, SCENES_SEED = 12, 1
"""Held-out scenes that the trained detector has."""

IMAGENET = ("vgg16", "resnet18", "resnet50", "mobilenetv2")
DETECTORS = tuple(f"codenet_{name}{taps}" for taps in ("", "_nearest") for name in "abcde")
CALIBRATED = (*IMAGENET, *DETECTORS)
"""Named here too, so that listing them imports no PyTorch."""

NETWORKS: dict[str, Network] = {
    "digits": Network(graph=_digits_graph, images=_digits_images),
    "detector": Network(graph=_detector_graph, images=_detector_images),
    **{name: Network(graph=functools.partial(_calibrated_graph, name),
                     images=functools.partial(_calibrated_images, name))
       for name in CALIBRATED},
}
"""Another network needs an entry here."""


def network(name: str) -> Network:
    """Return the network called `name`; UnknownNetworkError with the known names otherwise."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise UnknownNetworkError(
            f"no network is called {name!r}; known: {', '.join(NETWORKS)}") from None
