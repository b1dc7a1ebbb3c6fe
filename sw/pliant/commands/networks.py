"""Networks that commands know by name: their integer graph and images to run them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.graph import Graph


class UnknownNetworkError(ValueError):
    """No network has that name; the message lists those that there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network by name.

    Attributes
    ----------
    graph : function that returns the integer graph of the trained network
    images : function that returns its held-out images, int8 (images, channels, height, width),
        and their labels, int64 (images,)
    """

    graph: Callable[[], Graph]
    images: Callable[[], tuple[NDArray[np.int8], NDArray[np.int64]]]


def _digits_graph() -> Graph:
    from pliant_models import digits

    return digits.graph()


def _digits_images() -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    from pliant_models import digits

    _, held_out = digits.dataset()
    return held_out.images, held_out.labels


NETWORKS: dict[str, Network] = {
    "digits": Network(graph=_digits_graph, images=_digits_images),
}
"""Another network needs an entry here."""


def network(name: str) -> Network:
    """Return the network called `name`; UnknownNetworkError with the known names otherwise."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise UnknownNetworkError(
            f"no network is called {name!r}; known: {', '.join(NETWORKS)}") from None
