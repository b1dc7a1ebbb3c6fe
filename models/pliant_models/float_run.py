"""Networks in float32, as PyTorch runs them: what the speed of simulators is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pliant_models import digits, networks
from pliant_models.networks.zoo import SIZE


def float_run(name: str) -> Callable[[], object]:
    """Return a function that runs network `name` on one image and returns its result, float32.

    Architecture as in the integer graph, in evaluation mode, without gradients; weights are
    whatever PyTorch initialises, for time does not depend on them.

    Raises
    ------
    KeyError
        No network has that name.
    """
    if name == "digits":
        model: nn.Module = digits.DigitsNetwork()
        image = torch.rand(1, 1, 8, 8)
    elif name in networks.DETECTORS:
        model, size = networks.named_detector(name)
        image = torch.rand(1, 3, size, size)
    else:
        model = networks.NETWORKS[name](width=1.0, size=SIZE, classes=1000)
        image = torch.rand(1, 3, SIZE, SIZE)
    model.eval()

    def run() -> object:
        with torch.no_grad():
            return model(image)

    return run
