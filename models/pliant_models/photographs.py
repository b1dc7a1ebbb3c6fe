"""Natural photographs that ordinary libraries carry, cut into images for calibration.

scikit-learn's two sample images and four of the photographs in scikit-image's wheel; nothing is
downloaded.
"""

from __future__ import annotations

import functools

import numpy as np
import skimage.data
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Statistics of ImageNet's red, green and blue that its networks are commonly trained with."""

SMALLEST_CROP = 0.5
"""Least side of a crop, as a share of the photograph's shorter side."""


@functools.cache
def photographs() -> tuple[NDArray[np.uint8], ...]:
    """Return the photographs, each uint8 (height, width, 3), red first."""
    bundled = (skimage.data.astronaut, skimage.data.chelsea, skimage.data.coffee,
               skimage.data.rocket)
    samples = load_sample_images().images
    images = [*samples, *(load() for load in bundled)]  # type: ignore[no-untyped-call]
    return tuple(np.asarray(image, np.uint8) for image in images)


def crops(count: int, size: int, *, seed: int) -> Tensor:
    """Return random crops of the photographs, normalised as ImageNet's networks expect.

    Parameters
    ----------
    count : int
        Images; the photographs take turns, so any six in a row show all of them.
    size : int
        Height and width in pixels that the square crops are resized to.
    seed : int
        Chooses side (from SMALLEST_CROP on), place and mirroring of each crop.

    Returns
    -------
    Tensor
        float32 (count, 3, size, size).
    """
    rng = np.random.default_rng(seed)
    sources = photographs()
    images = [crop(sources[index % len(sources)], size, rng) for index in range(count)]
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (MEAN, DEVIATION))
    return (torch.stack(images) / 255 - mean) / deviation


def crop(photograph: NDArray[np.uint8], size: int, rng: np.random.Generator) -> Tensor:
    """Return a random square of a photograph as float32 (3, size, size), pixels 0..255."""
    height, width = photograph.shape[:2]
    short = min(height, width)
    side = int(rng.integers(int(SMALLEST_CROP * short), short + 1))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    part = photograph[top:top + side, left:left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    pixels = torch.from_numpy(part.transpose(2, 0, 1).astype(np.float32))[None]
    return functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0]
