"""Scenes with what was found in them, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pliant_models.detection.average_precision import Detections

MIN_SCORE = 0.3
"""Objects that are less certain are not drawn."""

SCALE = 4
"""Pixels of the picture for one of a scene."""

COLUMNS = 4

FRAME, TEXT = (255, 255, 0), (0, 0, 0)


def draw(images: NDArray[np.uint8], found: list[Detections], path: Path) -> None:
    """Write the images side by side as PNG, boxes with label and score in them.

    Parameters
    ----------
    images : uint8 (images, height, width, 3)
        Red first.
    found : list of Detections
        Of each image.
    path : Path
        The file.
    """
    height, width = (SCALE * size for size in images.shape[1:3])
    columns = min(COLUMNS, len(images))
    picture = Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for index, (image, detections) in enumerate(zip(images, found, strict=True)):
        left, top = index % columns * width, index // columns * height
        enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        _frames(enlarged, detections)
        picture.paste(enlarged, (left, top))
    picture.save(path)


def _frames(image: Image.Image, found: Detections) -> None:
    brush = ImageDraw.Draw(image)
    for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True):
        if score < MIN_SCORE:
            continue
        left, top, right, bottom = (float(edge) * SCALE for edge in box)
        brush.rectangle((left, top, max(left, right), max(top, bottom)), outline=FRAME, width=2)
        corner = (max(left, 0), max(top, 0))
        text = f"{label} {score:.0%}"
        brush.rectangle(brush.textbbox(corner, text), fill=FRAME)
        brush.text(corner, text, fill=TEXT)
