"""Deformable sampling on integers: where a kernel's taps read, and what they read between pixels.

Offsets are int8 in units of ``2**-fraction_bits`` pixels, clamped to ``minimum..maximum``. A tap's
position is that of the plain convolution plus its displacement, in sixteenths of a pixel:

- SCALED: one offset v per pixel; tap (ky, kx) moves by ``(ky - (kernel_height - 1)/2) * v`` rows
  and ``(kx - (kernel_width - 1)/2) * v`` columns, so that the dilation grows by v (CoDeNet,
  arXiv:2006.08357). Kernels are odd.
- PER_TAP: channels 2t and 2t + 1 are the rows and columns of tap ``t = ky*kernel_width + kx``
  (deformable convolution, arXiv:1703.06211).
- MODULATED: as PER_TAP; the sample is multiplied by ``(mask[t] + 128) / 128`` (arXiv:1811.11168).

With q the position and ``f = q mod 16`` per axis, the sample of a channel is

    zero_point + round(sum over 2x2 neighbours of weight * (x - zero_point) * m / 2**15)

where the weights are the products of ``16 - f`` and ``f`` of both axes (they sum to 256), m is
128 without a mask, ties round to even, the result saturates to int8, and neighbours outside of the
tensor are the zero point. Without interpolation the position is first rounded to whole pixels, half
a pixel up. A sample is thus a quantized value at the input's own scale, and offsets of zero give
the input itself.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pliant.spec.numerics import INT8_MAX, INT8_MIN, shift_half_even

FRACTION_BITS = 4
"""Positions are in sixteenths of a pixel."""

MASK_ONE = 128
"""The mask factor that changes nothing; the int8 mask is this much lower."""

SAMPLE_SHIFT = 2 * FRACTION_BITS + 7
"""Of the sum of products of two fractions and a mask factor."""

MAX_SCALED_KERNEL = 7
"""Largest side of a SCALED kernel."""


class Offsets(enum.IntEnum):
    """What displaces the taps of a Matrix instruction."""

    NONE = 0
    SCALED = 1
    """One value per pixel scales the kernel."""
    PER_TAP = 2
    """Rows and columns for each tap."""
    MODULATED = 3
    """The same, and a factor for each tap."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How offsets are read; see the module. `fraction_bits` is 0 to 4."""

    offsets: Offsets
    fraction_bits: int = FRACTION_BITS
    minimum: int = INT8_MIN
    maximum: int = INT8_MAX
    interpolate: bool = True

    def offset_channels(self, kernel: tuple[int, int]) -> int:
        """Return the channels of the offset tensor."""
        return 1 if self.offsets is Offsets.SCALED else 2 * kernel[0] * kernel[1]

    def mask_channels(self, kernel: tuple[int, int]) -> int:
        """Return the channels of the mask tensor, 0 without one."""
        return kernel[0] * kernel[1] if self.offsets is Offsets.MODULATED else 0

    def reach(self, kernel: int) -> tuple[int, int]:
        """Return how many pixels before and behind a plain tap's position an axis can be read."""
        shift = FRACTION_BITS - self.fraction_bits
        bounds = [self.minimum << shift, self.maximum << shift]
        if self.offsets is Offsets.SCALED:
            half = kernel // 2
            bounds = [bound * anchor for bound in bounds for anchor in (-half, half)]
        low, high = min(*bounds, 0), max(*bounds, 0)
        if not self.interpolate:
            low, high = rounded_position(low), rounded_position(high)
        return -(low >> FRACTION_BITS), -(-high >> FRACTION_BITS)


Positions = NDArray[np.int64]

Position = TypeVar("Position", int, Positions)


def rounded_position(position: Position) -> Position:
    """Return the position of the nearest pixel, half a pixel up."""
    return ((position + (1 << FRACTION_BITS - 1)) >> FRACTION_BITS) << FRACTION_BITS


def displacement(
    sampling: Sampling, offsets: NDArray[np.int8], kernel: tuple[int, int], ky: int, kx: int
) -> tuple[Positions, Positions]:
    """Return rows and columns, in sixteenths, that a tap moves by at every output pixel.

    `offsets` is int8 (..., channels, height, width).
    """
    clamped = np.clip(offsets.astype(np.int64), sampling.minimum, sampling.maximum)
    clamped <<= FRACTION_BITS - sampling.fraction_bits
    if sampling.offsets is Offsets.SCALED:
        scale = clamped[..., 0, :, :]
        return (ky - kernel[0] // 2) * scale, (kx - kernel[1] // 2) * scale
    tap = ky * kernel[1] + kx
    return clamped[..., 2 * tap, :, :], clamped[..., 2 * tap + 1, :, :]


def sample(
    values: NDArray[np.int8], rows: Positions, columns: Positions, *, zero_point: int,
    interpolate: bool = True, mask: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """Return the samples of all channels at positions in sixteenths of a pixel.

    Parameters
    ----------
    values : int8 (images, height, width, channels)
        The tensor.
    rows, columns : int64 (images, out height, out width)
        Positions.
    zero_point : int
        What lies outside, and what the mask scales towards.
    interpolate : bool
        Bilinear; else the nearest pixel.
    mask : int8 (images, out height, out width) or None
        MASK_ONE less than the factor.

    Returns
    -------
    int8 (images, out height, out width, channels)
    """
    if not interpolate:
        rows, columns = rounded_position(rows), rounded_position(columns)
    _, height, width, channels = values.shape
    one = 1 << FRACTION_BITS
    row, column = rows >> FRACTION_BITS, columns >> FRACTION_BITS
    fraction_y, fraction_x = rows & (one - 1), columns & (one - 1)
    images = np.arange(len(values))[:, None, None]
    total = np.zeros((*rows.shape, channels), np.int64)
    for i, j in itertools.product(range(2), repeat=2):
        y, x = row + i, column + j
        weight = ((fraction_y if i else one - fraction_y)
                  * (fraction_x if j else one - fraction_x))
        weight = np.where((y >= 0) & (y < height) & (x >= 0) & (x < width), weight, 0)
        found = values[images, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        total += weight[..., None] * (found.astype(np.int64) - zero_point)
    factor = MASK_ONE if mask is None else mask.astype(np.int64)[..., None] + MASK_ONE
    samples = shift_half_even(total * factor, SAMPLE_SHIFT) + zero_point
    return np.clip(samples, INT8_MIN, INT8_MAX).astype(np.int8)
