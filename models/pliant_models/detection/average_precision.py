"""Average precision at an overlap of one half: PASCAL VOC's measure, area under all points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERLAP = 0.5
"""Least intersection over union of a box with what it found."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one image, best first.

    `labels` are int64 (objects,), `scores` float64 (objects,), `boxes` float64 (objects, 4): left,
    top, right and bottom edge in pixels.
    """

    labels: NDArray[np.int64]
    scores: Floats
    boxes: Floats


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Return intersection over union of each box with each other, (boxes, others)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(part[:, 2:] - part[:, :2], 0, None).prod(axis=1) for part in (boxes, others)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.asarray(common / np.maximum(union, np.finfo(np.float64).tiny))


def average_precision(
    found: list[Detections], boxes: list[Floats], labels: list[NDArray[np.int64]], label: int
) -> float:
    """Return the average precision of one class over images; NaN if no image has it.

    Detections claim, in the order of their scores over all images, the object they overlap most; it
    must overlap enough and not be claimed yet. Precision is the best at any higher recall
    (Everingham et al., The PASCAL visual object classes challenge, 2010 and later).
    """
    objects = [box[label == name] for box, name in zip(boxes, labels, strict=True)]
    total = sum(len(part) for part in objects)
    if not total:
        return float("nan")
    scores, right = [], []
    for detections, real in zip(found, objects, strict=True):
        mine = detections.labels == label
        order = np.argsort(-detections.scores[mine], kind="stable")
        claimed = np.zeros(len(real), bool)
        for score, box in zip(detections.scores[mine][order], detections.boxes[mine][order],
                              strict=True):
            overlap = overlaps(box[None], real)[0]
            best = int(overlap.argmax()) if len(real) else -1
            hit = best >= 0 and overlap[best] >= OVERLAP and not claimed[best]
            if hit:
                claimed[best] = True
            scores.append(score)
            right.append(hit)
    ranked = np.array(right, bool)[np.argsort(-np.array(scores), kind="stable")]
    hits = np.cumsum(ranked)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[ranked].sum() / total)


def mean_average_precision(
    found: list[Detections], boxes: list[Floats], labels: list[NDArray[np.int64]], classes: int
) -> float:
    """Return the mean over classes of :func:`average_precision`, those without objects left out."""
    values = [average_precision(found, boxes, labels, label) for label in range(classes)]
    return float(np.nanmean(values))
