"""Networks in float32, as PyTorch runs them: what the speed of simulators is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pliant_models import digits, networks
from pliant_models.networks.zoo import SIZE


def float_run(name: str) -> Callable[[], Tensor]:
    """Return a function that runs network `name` on one image and returns the logits, float32.

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
    else:
        model = networks.NETWORKS[name](width=1.0, size=SIZE, classes=1000)
        image = torch.rand(1, 3, SIZE, SIZE)
    model.eval()

    def run() -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(image)
        return logits

    return run
