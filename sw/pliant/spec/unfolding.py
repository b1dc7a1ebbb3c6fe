"""How an input image is laid out for a first layer with few channels.

A 3-channel image would use 3 lanes of each word. Instead the columns that a window covers are
brought into the channels: the layer then has a kernel of one column, and its words hold kernel
column times channel. The image takes about the same bytes in DDR, since its words were mostly
padding; whoever writes the input arranges it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Unfolding:
    """Windows along x as channels.

    Attributes
    ----------
    shape : (channels, height, width)
        Of the image.
    kernel, stride, dilation : int
        Of the window along x.
    left : int
        Columns of padding before the image.
    columns : int
        Windows in a row.
    fill : int
        Value of padding, the zero point.
    """

    shape: tuple[int, int, int]
    kernel: int
    stride: int
    dilation: int
    left: int
    columns: int
    fill: int

    @property
    def unfolded_shape(self) -> tuple[int, int, int]:
        """Shape of the result: (kernel * channels, height, columns)."""
        return self.kernel * self.shape[0], self.shape[1], self.columns

    def apply(self, image: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return channel ``k*channels + c`` = column ``x*stride + k*dilation - left`` of channel c.

        Takes int8 (channels, height, width) and returns int8 of `unfolded_shape`.
        """
        reach = (self.columns - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        channels, height, width = self.shape
        padded = np.full((channels, height, max(reach, self.left + width)), self.fill, np.int8)
        padded[:, :, self.left:self.left + width] = image
        parts = [
            padded[:, :, start:start + (self.columns - 1) * self.stride + 1:self.stride]
            for start in range(0, self.kernel * self.dilation, self.dilation)
        ]
        return np.concatenate(parts)
