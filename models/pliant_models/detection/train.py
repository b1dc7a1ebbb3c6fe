"""CoDeNet trained on synthetic scenes, then quantized and fine-tuned.

``python -m pliant_models.detection.train`` repeats the training and writes the weights that are
shipped with the package; ``--check`` reports how good those at hand are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, fx, nn

from pliant_models import packing
from pliant_models.detection.average_precision import mean_average_precision
from pliant_models.detection.decoding import decode
from pliant_models.detection.detector import WEIGHTS, detector, integer_score, quantized
from pliant_models.detection.losses import loss, targets
from pliant_models.detection.scenes import CLASSES, SIZE, Scenes, scenes
from pliant_models.networks.codenet import CoDeNet
from pliant_models.quantize import calibrate

SEED = 2024

BATCH = 16

SMALL_SIZE, SMALL_BATCH = 64, 48
"""Of the scenes that the backbone learns to name."""

CLASSIFYING_STEPS, CYCLES, TUNING_STEPS = 300, (600, 300), 100
"""Steps of the backbone alone, of the network in each cycle of the rate, with quantizers."""

CLASSIFYING_RATE, RATE, TUNING_RATE = 2e-3, 1.5e-3, 3e-4

WARMING = 0.15
"""Share of the steps in which the rate grows."""

LARGEST_GRADIENT = 10.0

REPORTED = 50
"""Steps to a report."""

CALIBRATION_BATCHES = 4

HELD_OUT_SEED, HELD_OUT = 1, 300
"""Scenes that the score is of."""

FLOAT_SCORE = "float AP50"
"""Note with the weights: what the float network reached on the same scenes."""

Report = Callable[[str], None]


def train_float(*, report: Report = print) -> CoDeNet:
    """Return CoDeNet 1x trained in float32, its backbone first as a classifier.

    Seeded; the result depends on torch's version and the machine's float32 arithmetic, too.
    """
    torch.manual_seed(SEED)
    network = CoDeNet(classes=CLASSES)
    fit_backbone(network.backbone, CLASSIFYING_STEPS, report=report)
    for cycle, steps in enumerate(CYCLES):
        fit(network, steps, rate=RATE, seed=SEED + sum(CYCLES[:cycle]), report=report)
    return network


def fine_tune(
    network: CoDeNet, *, steps: int = TUNING_STEPS, rate: float = TUNING_RATE,
    report: Report = print,
) -> fx.GraphModule:
    """Return the quantized model, trained further with its quantizers."""
    model = quantized(network)
    seed = SEED + sum(CYCLES)  # scenes that the float network did not see
    calibrate(model, [scenes(seed + index, BATCH, held_out=False).real()
                      for index in range(CALIBRATION_BATCHES)])
    fit(model, steps, rate=rate, seed=seed, report=report)
    return model


def fit_backbone(backbone: nn.Module, steps: int, *, report: Report = print) -> None:
    """Train the backbone to name the one digit of small scenes; leaves evaluation mode on.

    It learns what digits look like much sooner by this than from heat maps, as published detectors
    have backbones trained on ImageNet.
    """
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(CLASSES))
    classifier = nn.Sequential(backbone, head)
    head(backbone(torch.zeros(2, 3, SMALL_SIZE, SMALL_SIZE)))  # sets the layer's inputs

    def batch_loss(step: int) -> Tensor:
        drawn = scenes(SEED + step, SMALL_BATCH, held_out=False, size=SMALL_SIZE, most=1)
        labels = torch.from_numpy(np.concatenate(drawn.labels))
        return functional.cross_entropy(classifier(_nearby(drawn.real())), labels)

    _optimize(classifier, batch_loss, steps, rate=CLASSIFYING_RATE, report=report)


def fit(model: nn.Module, steps: int, *, rate: float, seed: int, report: Report = print) -> None:
    """Train a detector on scenes drawn anew for each step; leaves evaluation mode on."""

    def batch_loss(step: int) -> Tensor:
        drawn = scenes(seed + step, BATCH, held_out=False)
        wanted = targets(drawn.boxes, drawn.labels, classes=CLASSES, size=SIZE)
        heatmap, size, shift = model(_nearby(drawn.real()))
        return loss(heatmap, size, shift, wanted)

    _optimize(model, batch_loss, steps, rate=rate, report=report)


def _nearby(images: Tensor) -> Tensor:
    """Return the images with a pixel's channels beside one another in memory: it is faster."""
    return images.to(memory_format=torch.channels_last)


def _optimize(
    model: nn.Module, batch_loss: Callable[[int], Tensor], steps: int, *, rate: float,
    report: Report,
) -> None:
    """Take steps of AdamW with a one-cycle rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps,
                                                   pct_start=WARMING)
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start, sums = time.perf_counter(), 0.0
    for step in range(steps):
        value = batch_loss(step)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        sums += value.item()
        if (step + 1) % REPORTED == 0:
            report(f"step {step + 1}: loss {sums / REPORTED:.3f}, "
                   f"{time.perf_counter() - start:.0f} s")
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


def main() -> None:
    """Train and write the weights, or report the score of those at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="score the weights at hand only")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="file written or read")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    held_out = scenes(HELD_OUT_SEED, HELD_OUT)
    start = time.perf_counter()
    if not options.check:
        network = train_float()
        unquantized = float_score(network, held_out)
        print(f"float AP50 {unquantized:.3f}")
        packing.save(fine_tune(network), options.weights, {FLOAT_SCORE: f"{unquantized:.4f}"})
        print(f"trained in {time.perf_counter() - start:.0f} s, "
              f"{options.weights.stat().st_size / 1000:.0f} kB in {options.weights}")
    score = integer_score(detector(options.weights), held_out)
    print(f"W4A8 AP50 {score:.3f} of {HELD_OUT} scenes, from integers")


if __name__ == "__main__":
    main()
