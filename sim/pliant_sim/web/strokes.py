"""From a drawing to the 8x8 image that the digits network was trained on.

The training images are bitmaps of 32x32 pixels in which every 4x4 block was counted, so that pixels
go from 0 to 16 (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
Learning Repository, 1998). A drawing takes the same way: cut out, scaled to 32 pixels, counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CANVAS = 128
"""Height and width of a drawing in pixels."""

BITMAP = 32
BLOCK = 4
INK = 128
"""Grey values from here on count as drawn."""


class DrawingError(ValueError):
    """A drawing that cannot be classified; the message says why."""


def parse(data: bytes) -> NDArray[np.uint8]:
    """Return grey values as uint8 (CANVAS, CANVAS), 0 for paper and 255 for ink.

    Raises
    ------
    DrawingError
        There are not exactly CANVAS * CANVAS bytes.
    """
    if len(data) != CANVAS * CANVAS:
        raise DrawingError(f"a drawing is {CANVAS} x {CANVAS} = {CANVAS * CANVAS} bytes of grey "
                           f"values, found {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(CANVAS, CANVAS)


def digit_image(drawing: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return the network's input for a drawing: int8 (1, 8, 8), values 0..16.

    The strokes are cut out and scaled, with their proportions, to fill the bitmap in height or
    width; what is left of the other is shared by both sides.

    Raises
    ------
    DrawingError
        Nothing is drawn.
    """
    rows, columns = np.nonzero(drawing >= INK)
    if not len(rows):
        raise DrawingError("nothing is drawn")
    strokes = Image.fromarray(
        drawing[rows.min():rows.max() + 1, columns.min():columns.max() + 1], mode="L")
    scale = BITMAP / max(strokes.size)
    size = (max(1, round(strokes.width * scale)), max(1, round(strokes.height * scale)))
    bitmap = Image.new("L", (BITMAP, BITMAP))
    bitmap.paste(strokes.resize(size, Image.Resampling.BOX),
                 ((BITMAP - size[0]) // 2, (BITMAP - size[1]) // 2))
    ink = np.asarray(bitmap) >= INK
    blocks = ink.reshape(BITMAP // BLOCK, BLOCK, BITMAP // BLOCK, BLOCK)
    counts: NDArray[np.int8] = blocks.sum(axis=(1, 3)).astype(np.int8)
    return counts[None]
