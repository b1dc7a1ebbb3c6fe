"""Seeded random weights, and batch norm statistics that belong to them.

No trained weights are at hand. Integers, cycles and memory traffic do not depend on them, as long
as activations keep the ranges that trained networks have.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int) -> None:
    """Draw all parameters anew.

    Convolutions and linear layers after Kaiming (He et al., Delving deep into rectifiers, ICCV
    2015), small normal biases; batch norms with weights in 0.5..1.5 and biases around 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.05, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.2, generator=generator)


def set_batch_norm_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running means and variances to the average over `batches`; leaves evaluation mode on."""
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches
        norm.train()
    if norms:
        with torch.no_grad():
            for batch in batches:
                model(batch)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
    model.eval()
