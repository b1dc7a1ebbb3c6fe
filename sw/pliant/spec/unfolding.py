"""How an input image is laid out for a first layer with few channels.

A 3-channel image would use 3 lanes of each word. Instead the columns that a window covers, or all
its pixels, are brought into the channels: the layer then has a kernel of one column, or of one
pixel, and its words hold kernel position times channel. The image takes about the same bytes in
DDR, since its words were mostly padding; whoever writes the input arranges it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
"""Along y and along x."""


@dataclass(frozen=True, kw_only=True)
class Unfolding:
    """Positions of a window as channels.

    An axis that stays as it is has a kernel, stride and dilation of 1, and no padding.

    Attributes
    ----------
    shape : (channels, height, width)
        Of the image.
    kernel, stride, dilation : (int, int)
        Of the window along y and x.
    before : (int, int)
        Rows of padding above the image, columns on its left.
    size : (int, int)
        Windows in a column and in a row.
    fill : int
        Value of padding, the zero point.
    """

    shape: tuple[int, int, int]
    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    size: Pair
    fill: int

    @property
    def unfolded_shape(self) -> tuple[int, int, int]:
        """Shape of the result: (kernel rows * kernel columns * channels, rows, columns)."""
        return self.kernel[0] * self.kernel[1] * self.shape[0], *self.size

    def apply(self, image: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the windows of an int8 image (channels, height, width), int8 `unfolded_shape`.

        Channel ``(ky*kernel[1] + kx)*channels + c`` at (y, x) is that of channel c at row
        ``y*stride[0] + ky*dilation[0] - before[0]``, column likewise.
        """
        shape, inside = self._padding
        padded = np.empty(shape, np.int8)
        padded.fill(self.fill)
        padded[inside] = image
        plane, row, column = padded.strides
        windows: NDArray[np.int8] = np.ndarray(
            (*self.kernel, self.shape[0], *self.size), np.int8, padded, 0,
            (self.dilation[0] * row, self.dilation[1] * column, plane, self.stride[0] * row,
             self.stride[1] * column))
        return windows.reshape(self.unfolded_shape)

    @functools.cached_property
    def _padding(self) -> tuple[tuple[int, int, int], tuple[slice, ...]]:
        """Shape of the image with padding, and where in it the image is."""
        height, width = (max(self._reach(axis), self.before[axis] + self.shape[1 + axis])
                         for axis in (0, 1))
        inside = (slice(first, first + size)
                  for first, size in zip(self.before, self.shape[1:], strict=True))
        return (self.shape[0], height, width), (slice(None), *inside)

    def _reach(self, axis: int) -> int:
        """Return how far the last window reaches."""
        return ((self.size[axis] - 1) * self.stride[axis]
                + (self.kernel[axis] - 1) * self.dilation[axis] + 1)
