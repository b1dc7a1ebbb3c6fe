"""Deformable convolution in float: bilinear samples at displaced taps, with all gradients.

What displaces the taps, and the bounds and units of offsets, say :class:`pliant.spec.sampling`'s
Sampling and its module; here offsets are in pixels, clamped to the same bounds, and not rounded.
`torch.export` sees one operator, ``pliant::deformable_conv2d``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant.spec.sampling import FRACTION_BITS, MAX_SCALED_KERNEL, Offsets, Sampling

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Taps:
    """Where the taps of a deformable convolution lie: rows and columns of its window."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    sampling: Sampling


def samples(value: Tensor, offsets: Tensor, mask: Tensor | None, taps: Taps) -> Tensor:
    """Return what all taps read, (images, height, width, taps, channels).

    In float64 it is exact for values on a grid, offsets in sixteenths and masks of 7 bits.

    Parameters
    ----------
    value : Tensor
        (images, channels, input height, input width); zero outside.
    offsets : Tensor
        In pixels, (images, offset channels, height, width).
    mask : Tensor or None
        Factors, (images, taps, height, width).
    taps : Taps
        Where to read.
    """
    images, channels, height, width = value.shape
    rows, columns = _positions(offsets, taps)
    row, column = rows.detach().floor(), columns.detach().floor()
    fraction_y, fraction_x = rows - row, columns - column
    first = torch.arange(images, device=value.device).reshape(-1, 1, 1, 1) * (height * width)
    indices, weights = [], []
    for i, j in itertools.product(range(2), repeat=2):
        y, x = row.long() + i, column.long() + j
        weight = ((fraction_y if i else 1 - fraction_y) * (fraction_x if j else 1 - fraction_x))
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        weights.append(torch.where(inside, weight, 0.0))
        indices.append(first + y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
    factors = torch.stack(weights, -1)
    if mask is not None:
        factors = factors * mask.permute(0, 2, 3, 1).unsqueeze(-1)
    pixels = value.permute(0, 2, 3, 1).reshape(-1, channels)
    read = functional.embedding_bag(torch.stack(indices, -1).reshape(-1, 4), pixels, mode="sum",
                                    per_sample_weights=factors.reshape(-1, 4))
    return read.reshape(*rows.shape, channels)


def _positions(offsets: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the taps in pixels, (images, height, width, taps)."""
    sampling = taps.sampling
    unit = 2.0**-sampling.fraction_bits
    clamped = offsets.clamp(sampling.minimum * unit, sampling.maximum * unit).permute(0, 2, 3, 1)
    _, height, width, _ = clamped.shape
    anchors = list(itertools.product(*map(range, taps.kernel)))
    tap_y, tap_x = (clamped.new_tensor([anchor[axis] for anchor in anchors]) for axis in (0, 1))
    if sampling.offsets is Offsets.SCALED:
        moved = clamped * (tap_y - taps.kernel[0] // 2), clamped * (tap_x - taps.kernel[1] // 2)
    else:
        moved = clamped[..., 0::2], clamped[..., 1::2]
    positions = []
    for axis, (shift, tap, size) in enumerate(zip(moved, (tap_y, tap_x), (height, width),
                                                  strict=True)):
        pixel = torch.arange(size, device=tap.device, dtype=tap.dtype)
        start = pixel * taps.stride[axis] - taps.padding[axis]
        plain = start[:, None] + tap * taps.dilation[axis]
        position = shift + (plain[:, None] if axis == 0 else plain)
        if not sampling.interpolate:  # the gradient is that of interpolation
            position = position + ((position + 0.5).floor() - position).detach()
        positions.append(position)
    return positions[0], positions[1]


def contract(read: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Return the convolution of what :func:`samples` read, (images, out, height, width).

    `weight` is (out, channels / groups, kernel height, kernel width).
    """
    images, height, width, taps = read.shape[:4]
    out, inner = weight.shape[:2]
    if inner == 1 and groups == out:
        result = (read * weight.reshape(out, taps).T.contiguous()).sum(3)
    else:
        grouped = read.reshape(images * height * width, taps, groups, inner)
        kernels = weight.reshape(groups, out // groups, inner, taps)
        result = torch.einsum("ptgi,goit->pgo", grouped, kernels)
        result = result.reshape(images, height, width, out)
    if bias is not None:
        result = result + bias
    return result.permute(0, 3, 1, 2).contiguous()


@torch.library.custom_op("pliant::deformable_conv2d", mutates_args=())
def deformable_conv2d(
    input: Tensor, offsets: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int,
    mode: int, fraction_bits: int, minimum: int, maximum: int, interpolate: bool,
) -> Tensor:
    """Return the deformable convolution; the last five arguments are the Sampling."""
    taps = taps_of(weight, stride, padding, dilation,
                   (mode, fraction_bits, minimum, maximum, interpolate))
    return contract(samples(input, offsets, mask, taps), weight, bias, groups)


def taps_of(
    weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    sampling: tuple[int, int, int, int, bool],
) -> Taps:
    """Return the Taps of the operator's arguments; `sampling` are its last five."""
    mode, fraction_bits, minimum, maximum, interpolate = sampling
    kernel, steps, border, spacing = (
        (int(sizes[0]), int(sizes[1])) for sizes in (weight.shape[2:], stride, padding, dilation))
    return Taps(kernel=kernel, stride=steps, padding=border, dilation=spacing, sampling=Sampling(
        offsets=Offsets(mode), fraction_bits=fraction_bits, minimum=minimum, maximum=maximum,
        interpolate=interpolate))


@deformable_conv2d.register_fake
def _(input: Tensor, offsets: Tensor, mask: Tensor | None, weight: Tensor, *rest: Any) -> Tensor:
    return input.new_empty(input.shape[0], weight.shape[0], offsets.shape[2], offsets.shape[3])


TENSORS = 5
"""The operator's first arguments, those that have gradients."""


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:TENSORS])
    ctx.arguments = inputs[TENSORS:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Compute it again with gradients: samples take more memory than time."""
    needed = ctx.needs_input_grad[:TENSORS]
    tensors: list[Any] = [None if tensor is None else tensor.detach().requires_grad_(wanted)
                          for tensor, wanted in zip(ctx.saved_tensors, needed, strict=True)]
    with torch.enable_grad():
        value, offsets, mask, weight, bias = tensors
        stride, padding, dilation, groups, *sampling = ctx.arguments
        taps = taps_of(weight, stride, padding, dilation, tuple(sampling))
        result = contract(samples(value, offsets, mask, taps), weight, bias, groups)
    leaves = [tensor for tensor, wanted in zip(tensors, needed, strict=True) if wanted]
    found = iter(torch.autograd.grad(result, leaves, gradient))
    gradients = [next(found) if wanted else None for wanted in needed]
    return (*gradients, *[None] * len(ctx.arguments))


deformable_conv2d.register_autograd(_backward, setup_context=_save)

DEFORMABLE_CONVOLUTION = torch.ops.pliant.deformable_conv2d.default
"""The operator as graphs name it."""


class DeformableConv2d(nn.Conv2d):
    """A convolution whose taps are displaced by offsets that the network computes.

    Parameters
    ----------
    channels, out_channels : int
    kernel : int
        Side of the kernel.
    sampling : Sampling
        What the offsets displace, their unit and bounds.
    stride, padding, dilation, groups : int
        As in a plain convolution; as many groups as channels make it depthwise.
    bias : bool

    Raises
    ------
    ValueError
        `sampling` has no offsets, has bounds that are not ordered int8, or scales a kernel that
        is even or too large.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, *, sampling: Sampling, stride: int = 1,
        padding: int = 0, dilation: int = 1, groups: int = 1, bias: bool = True,
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride=stride, padding=padding,
                         dilation=dilation, groups=groups, bias=bias)
        if sampling.offsets is Offsets.NONE:
            raise ValueError("sampling has Offsets.NONE; use nn.Conv2d")
        if not INT8_MIN <= sampling.minimum <= sampling.maximum <= INT8_MAX:
            raise ValueError(f"offsets of {sampling.minimum} to {sampling.maximum} must be bounds "
                             f"within {INT8_MIN} to {INT8_MAX}")
        if not 0 <= sampling.fraction_bits <= FRACTION_BITS:
            raise ValueError(f"fraction_bits = {sampling.fraction_bits} must be 0 to "
                             f"{FRACTION_BITS}")
        if sampling.offsets is Offsets.SCALED and (kernel % 2 == 0 or kernel > MAX_SCALED_KERNEL):
            raise ValueError(f"kernel = {kernel} must be odd and at most {MAX_SCALED_KERNEL} to be "
                             "scaled by one offset per pixel")
        self.sampling = sampling

    def forward(  # type: ignore[override]
        self, value: Tensor, offsets: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return (images, out_channels, height, width).

        `offsets` are in pixels, (images, offset channels, height, width), `mask` are factors
        (images, taps, height, width), given with Offsets.MODULATED alone.
        """
        sampling = self.sampling
        if (mask is None) == (sampling.offsets is Offsets.MODULATED):
            raise ValueError(f"{sampling.offsets.name} offsets come "
                             f"{'with' if mask is None else 'without'} a mask")
        result: Tensor = DEFORMABLE_CONVOLUTION(
            value, offsets, mask, self.weight, self.bias, self.stride, self.padding, self.dilation,
            self.groups, int(sampling.offsets), sampling.fraction_bits, sampling.minimum,
            sampling.maximum, sampling.interpolate)
        return result
