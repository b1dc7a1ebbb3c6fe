"""Synthetic scenes: scikit-learn's handwritten digits, scaled and coloured, over photographs.

Photographs are dimmed and strokes steepened: the digits have 8x8 pixels, and many would be
illegible, to people too, over the plain photographs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from pliant_models import digits
from pliant_models.photographs import crop, photographs

CLASSES = 10

SIZE = 128
"""Height and width of a scene in pixels."""

MIN_HEIGHT, MAX_HEIGHT = 32, 72
"""Of a digit in pixels."""

MAX_DIGITS = 3

INK = 3
"""Least value, of 0..16, that counts as a part of the digit."""

STEEPNESS = 2.0
"""Factor of the opacity around its middle."""

BRIGHTNESS = 0.5
"""Of the photographs."""

CONTRAST = 90
"""How much brighter a digit's colour is, at least, than the mean of what it covers."""

INPUT_SCALE = 2.0**-7
"""The int8 inputs are pixels minus 128; their real value is a pixel / 128 - 1."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images and what is in them.

    Attributes
    ----------
    images : int8 (images, 3, size, size)
        Red, green and blue, minus 128.
    boxes : list of float64 (objects, 4)
        Left, top, right and bottom edge in pixels, for each image.
    labels : list of int64 (objects,)
        0..9, for each image.
    """

    images: NDArray[np.int8]
    boxes: list[NDArray[np.float64]]
    labels: list[NDArray[np.int64]]

    def real(self) -> Tensor:
        """Return the real-valued images, float32."""
        return torch.from_numpy(self.images.astype(np.float32) * np.float32(INPUT_SCALE))

    def pixels(self) -> NDArray[np.uint8]:
        """Return the images as uint8 (images, size, size, 3)."""
        return (self.images.transpose(0, 2, 3, 1).astype(np.int16) + 128).astype(np.uint8)


@functools.cache
def _digits(held_out: bool) -> digits.Split:
    return digits.dataset()[held_out]


def scenes(
    seed: int, count: int, *, held_out: bool = True, size: int = SIZE, most: int = MAX_DIGITS
) -> Scenes:
    """Return random scenes, each with 1 to `most` digits whose boxes do not overlap.

    Parameters
    ----------
    seed : int
        Chooses everything.
    count : int
        Scenes; the photographs take turns.
    held_out : bool
        Of digits that training never sees, or of the others.
    size : int
        Height and width of the scenes, at least MIN_HEIGHT.
    most : int
        Most digits in a scene.
    """
    rng = np.random.default_rng([seed, held_out])
    split = _digits(held_out)
    images, boxes, labels = [], [], []
    sources = photographs()
    for index in range(count):
        image = crop(sources[index % len(sources)], size, rng).numpy() * np.float32(BRIGHTNESS)
        found: list[tuple[int, int, int, int]] = []
        named: list[int] = []
        for _ in range(int(rng.integers(1, most + 1))):
            chosen = int(rng.integers(len(split.labels)))
            height = int(rng.integers(MIN_HEIGHT, min(MAX_HEIGHT, size) + 1))
            ink = _resized(split.images[chosen, 0], height, min(MAX_HEIGHT, size))
            box = _place(found, ink.shape, size, rng)
            if box is not None:
                _paint(image, ink, box, rng)
                found.append(box)
                named.append(int(split.labels[chosen]))
        images.append(np.round(image - 128).clip(-128, 127).astype(np.int8))
        boxes.append(np.array(found, np.float64).reshape(-1, 4))
        labels.append(np.array(named, np.int64))
    return Scenes(np.stack(images), boxes, labels)


def _resized(digit: NDArray[np.int8], height: int, widest: int) -> NDArray[np.float32]:
    """Return the inked part of a digit as opacities 0..1 of the given height."""
    rows, columns = (np.flatnonzero((digit >= INK).any(axis=axis)) for axis in (1, 0))
    part = digit[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].astype(np.float32) / 16
    width = max(height // 4, round(height * part.shape[1] / part.shape[0]))
    pixels = torch.from_numpy(part)[None, None]
    size = (height, min(width, widest))
    resized = functional.interpolate(pixels, size, mode="bilinear", align_corners=True)
    return np.clip((resized[0, 0].numpy() - 0.5) * np.float32(STEEPNESS) + np.float32(0.5), 0, 1)


def _place(
    found: list[tuple[int, int, int, int]], shape: tuple[int, ...], size: int,
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    """Return a box of the given shape apart from the others, or None after a few attempts."""
    height, width = shape
    for _ in range(10):
        left, top = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        box = (left, top, left + width, top + height)
        if all(box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1]
               or other[3] <= box[1] for other in found):
            return box
    return None


def _paint(
    image: NDArray[np.float32], ink: NDArray[np.float32], box: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> None:
    """Blend a digit of one colour, brighter than what it covers, into (3, size, size)."""
    left, top, right, bottom = box
    part = image[:, top:bottom, left:right]
    mean = part.mean()
    while True:
        colour = rng.integers(0, 256, 3).astype(np.float32)
        if colour.mean() - mean >= CONTRAST:
            break
    part += ink * (colour[:, None, None] - part)
