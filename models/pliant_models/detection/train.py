"""CoDeNet trained on synthetic scenes, then quantized and fine-tuned.

``python -m pliant_models.detection.train`` repeats the training and writes the weights that are
shipped with the package; ``--check`` reports how good those at hand are.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import nn

from pliant_models.detection.average_precision import mean_average_precision
from pliant_models.detection.decoding import decode
from pliant_models.detection.losses import loss, targets
from pliant_models.detection.scenes import CLASSES, SIZE, Scenes, scenes
from pliant_models.networks.codenet import CoDeNet

SEED = 2024

BATCH = 16

Report = Callable[[str], None]


def train_float(*, steps: int, rate: float = 2e-3, report: Report = print) -> CoDeNet:
    """Return CoDeNet 1x trained in float32 on scenes that are drawn anew for each step."""
    torch.manual_seed(SEED)
    network = CoDeNet(classes=CLASSES)
    fit(network, steps, rate=rate, seed=SEED, report=report)
    return network


def fit(model: nn.Module, steps: int, *, rate: float, seed: int, report: Report = print) -> None:
    """Train with AdamW and a one-cycle rate; leaves evaluation mode on."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    start, sums = time.perf_counter(), 0.0
    for step in range(steps):
        drawn = scenes(seed + step, BATCH, held_out=False)
        wanted = targets(drawn.boxes, drawn.labels, classes=CLASSES, size=SIZE)
        heatmap, size, shift = model(drawn.real())
        value = loss(heatmap, size, shift, wanted)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        sums += value.item()
        if step % 50 == 49:
            report(f"step {step + 1}: loss {sums / 50:.3f}, {time.perf_counter() - start:.0f} s")
            sums = 0.0
    model.eval()


def float_score(model: nn.Module, held_out: Scenes) -> float:
    """Return the AP50 of a float or quantized model that yields the three heads."""
    with torch.no_grad():
        parts = [model(batch) for batch in torch.split(held_out.real(), BATCH)]
    heatmap, size, shift = (torch.cat(values) for values in zip(*parts, strict=True))
    around = functional.max_pool2d(heatmap, 3, stride=1, padding=1)
    peaks = torch.where(heatmap == around, heatmap, -torch.inf)
    arrays = [value.double().numpy() for value in (peaks, size, shift)]
    found = [decode(*image) for image in zip(*arrays, strict=True)]
    return mean_average_precision(found, held_out.boxes, held_out.labels, CLASSES)
