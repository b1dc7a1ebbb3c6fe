"""CenterNet's targets and losses (Zhou et al., Objects as points, arXiv:1904.07850).

To these comes a cross entropy between the classes where objects are: the focal loss finds objects
long before it tells classes apart, for a wrong class costs it little while all are unlikely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from pliant_models.detection.decoding import OUTPUT_STRIDE

LEAST_OVERLAP = 0.7
"""Of a box with the object's, where a peak beside the true one is still punished less."""

FOCUS, NEAR = 2, 4
"""Exponents alpha and beta of the focal loss."""

SIZE_WEIGHT, SHIFT_WEIGHT, CLASS_WEIGHT = 0.1, 1.0, 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """What the heads are to yield for a batch.

    `heatmap` are probabilities (images, classes, height, width); `labels` (objects,), `size` and
    `shift` (objects, 2) belong to the pixels `places`, indices (objects,) of image, row and column.
    """

    heatmap: Tensor
    places: tuple[Tensor, Tensor, Tensor]
    labels: Tensor
    size: Tensor
    shift: Tensor


def targets(
    boxes: list[NDArray[np.float64]], labels: list[NDArray[np.int64]], *, classes: int, size: int
) -> Targets:
    """Return the targets for boxes and labels of some images of `size` pixels a side."""
    side = size // OUTPUT_STRIDE
    heatmap = np.zeros((len(boxes), classes, side, side), np.float32)
    places, sizes, shifts = [], [], []
    for image, (of_image, named) in enumerate(zip(boxes, labels, strict=True)):
        for box, label in zip(of_image / OUTPUT_STRIDE, named, strict=True):
            extent, centre = box[2:] - box[:2], (box[:2] + box[2:]) / 2
            column, row = (min(int(value), side - 1) for value in centre)
            spot = gaussian(side, row, column, radius(*extent))
            np.maximum(heatmap[image, label], spot, out=heatmap[image, label])
            places.append((image, row, column))
            sizes.append(extent)
            shifts.append(centre - (column, row))
    images, rows, columns = (torch.from_numpy(axis) for axis in
                             np.array(places, np.int64).reshape(-1, 3).T.copy())
    real = [torch.from_numpy(np.array(values, np.float32).reshape(-1, 2))
            for values in (sizes, shifts)]
    return Targets(torch.from_numpy(heatmap), (images, rows, columns),
                   torch.from_numpy(np.concatenate(labels)), real[0], real[1])


def radius(width: float, height: float) -> float:
    """Return how far both corners may move, in any directions, and still overlap enough.

    The least of the radii for a box moved, shrunk and grown (CornerNet, arXiv:1808.01244).
    """
    total, area, share = width + height, width * height, LEAST_OVERLAP
    moved = _smaller_root(1, total, area * (1 - share) / (1 + share))
    shrunk = _smaller_root(4, 2 * total, area * (1 - share))
    grown = (-2 * share * total + math.sqrt(
        (2 * share * total)**2 + 16 * share * area * (1 - share))) / (8 * share)
    return min(moved, shrunk, grown)


def _smaller_root(a: float, b: float, c: float) -> float:
    """Return the smaller root of ``a*x**2 - b*x + c``."""
    return (b - math.sqrt(b * b - 4 * a * c)) / (2 * a)


def gaussian(side: int, row: int, column: int, reach: float) -> NDArray[np.float32]:
    """Return a peak of 1 with a deviation of a sixth of ``2 * reach + 1``."""
    deviation = (2 * max(reach, 0) + 1) / 6
    y, x = np.mgrid[:side, :side]
    spot = np.exp(-((y - row)**2 + (x - column)**2) / (2 * deviation**2))
    spot[spot < np.finfo(np.float32).eps] = 0
    return np.asarray(spot, np.float32)


def focal_loss(logits: Tensor, heatmap: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss over the number of peaks."""
    peaks = heatmap == 1
    probability = torch.sigmoid(logits)
    right = (1 - probability)**FOCUS * functional.logsigmoid(logits) * peaks
    wrong = (probability**FOCUS * functional.logsigmoid(-logits) * (1 - heatmap)**NEAR * ~peaks)
    return -(right.sum() + wrong.sum()) / peaks.sum().clamp(min=1)


def loss(heatmap: Tensor, size: Tensor, shift: Tensor, wanted: Targets) -> Tensor:
    """Return the loss of what the heads yield, (images, ., height, width)."""
    images, rows, columns = wanted.places
    total = focal_loss(heatmap, wanted.heatmap)
    for value, real, weight in ((size, wanted.size, SIZE_WEIGHT),
                                (shift, wanted.shift, SHIFT_WEIGHT)):
        found = value[images, :, rows, columns]
        total = total + weight * (found - real).abs().sum() / max(1, len(real))
    classes = functional.cross_entropy(heatmap[images, :, rows, columns], wanted.labels,
                                       reduction="sum")
    return total + CLASS_WEIGHT * classes / max(1, len(wanted.labels))
