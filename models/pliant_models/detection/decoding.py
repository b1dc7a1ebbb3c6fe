"""From what the network's heads yield to boxes, in NumPy: the host's part of the detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pliant.spec.numerics import INT8_MIN
from pliant_models.detection.average_precision import Detections

TOP = 100
"""Most objects found in an image."""

OUTPUT_STRIDE = 4
"""Pixels of the image for one of the heads'."""


def decode(
    peaks: NDArray[np.float64], size: NDArray[np.float64], shift: NDArray[np.float64]
) -> Detections:
    """Return the objects of one image, the best TOP of them.

    Of equal peaks beside one another, common among integers, the first in reading order counts.

    Parameters
    ----------
    peaks : float64 (classes, height, width)
        Logits where they are local maxima, -inf elsewhere.
    size : float64 (2, height, width)
        Width and height of boxes, in pixels of the heads.
    shift : float64 (2, height, width)
        How far right of and below its pixel a box's centre lies.
    """
    flat = _without_repetitions(peaks).reshape(-1)
    best = np.argsort(-flat, kind="stable")[:TOP]
    best = best[flat[best] > -np.inf]
    label, row, column = np.unravel_index(best, peaks.shape)
    centre = np.stack([column, row], 1) + shift[:, row, column].T
    half = size[:, row, column].T / 2
    boxes = np.concatenate([centre - half, centre + half], 1) * OUTPUT_STRIDE
    return Detections(labels=label.astype(np.int64), scores=1 / (1 + np.exp(-flat[best])),
                      boxes=boxes)


def _without_repetitions(peaks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the peaks without those that equal a neighbour to the left or in the row above."""
    _, height, width = peaks.shape
    padded = np.pad(peaks, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    repeated = np.zeros(peaks.shape, bool)
    for y, x in ((0, 0), (0, 1), (0, 2), (1, 0)):
        repeated |= padded[:, y:y + height, x:x + width] == peaks
    return np.where(repeated, -np.inf, peaks)


def decode_integers(
    scales: Sequence[float], outputs: Sequence[NDArray[np.int8]]
) -> list[Detections]:
    """Return the objects of each image from what the integer network yields.

    Parameters
    ----------
    scales : sequence of 3 float
        Real values of a step of `outputs`; their zero points are 0.
    outputs : sequence of 3 int8 (images, channels, height, width)
        Peaks (-128 where there is none), size and shift, as the network yields them.
    """
    peaks, size, shift = (value * scale for value, scale in zip(outputs, scales, strict=True))
    peaks = np.where(outputs[0] == INT8_MIN, -np.inf, peaks)
    return [decode(*parts) for parts in zip(peaks, size, shift, strict=True)]
