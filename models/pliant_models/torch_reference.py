"""Evaluates an integer graph with PyTorch's integer operators, apart from NumPy's reference.

The requantization is written out here from the definitions (remainders for ties to even and up,
gemmlowp's C++ for its double rounding) and shares no code with :mod:`pliant.spec.numerics`, so that
a fault in either shows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DeformableConvolution,
    DepthwiseConvolution,
    Graph,
    Lookup,
    MaxPool,
    Node,
    Padding,
    Requantization,
    SelectChannels,
    Upsample,
)
from pliant.spec.numerics import Rounding
from pliant.spec.sampling import Offsets, Sampling


def torch_reference(
    graph: Graph, inputs: Mapping[str, NDArray[np.int8]], *, multiplier_bits: int
) -> dict[str, NDArray[np.int8]]:
    """Return every tensor of `graph` by name, int8 (images, channels, height, width).

    Parameters
    ----------
    graph : Graph
        Nodes in execution order.
    inputs : dict of int8 (images, channels, height, width)
        One entry for each input.
    multiplier_bits : int
        That of the configuration.
    """
    zero_points = {name: tensor.zero_point for name, tensor in graph.tensors().items()}
    values = {name: torch.from_numpy(value.astype(np.int64)) for name, value in inputs.items()}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        values[node.output.name] = _evaluate(
            node, operands, zero_points[node.inputs[0]], multiplier_bits)
    return {name: value.numpy().astype(np.int8) for name, value in values.items()}


def _evaluate(node: Node, operands: list[Tensor], zero_point: int, multiplier_bits: int) -> Tensor:
    value = operands[0]
    if isinstance(node, (Convolution, DepthwiseConvolution)):
        weight, bias = (torch.from_numpy(array.astype(np.int32)) for array in
                        (node.weight, node.bias))
        if isinstance(node, DepthwiseConvolution):
            weight, groups = weight[:, None], len(weight)
        else:
            groups = node.groups
        padded = _pad(value - zero_point, node.padding, 0).int()
        sums = functional.conv2d(padded, _dilated(weight, node.dilation), bias, node.stride,
                                 groups=groups)
        return _requantize(sums.long(), node.requantization, multiplier_bits)
    if isinstance(node, DeformableConvolution):
        return _requantize(_convolve_deformable(node, operands, zero_point), node.requantization,
                           multiplier_bits)
    if isinstance(node, AveragePool):
        padded = _pad(value - zero_point, node.padding, 0).int()
        channels = padded.shape[1]
        ones = torch.ones((channels, 1, *node.kernel), dtype=torch.int32)
        sums = functional.conv2d(padded, ones, stride=node.stride, groups=channels)
        return _requantize(sums.long(), node.requantization, multiplier_bits)
    if isinstance(node, MaxPool):
        padded = _pad(value, node.padding, -128).double()  # int8 is exact in it
        return functional.max_pool2d(padded, node.kernel, node.stride,
                                     dilation=node.dilation).long()
    if isinstance(node, Add):
        total = value * node.multipliers[0] + operands[1] * node.multipliers[1] + node.offset
        scaled = _divide(total, torch.tensor(node.shift), node.rounding)
        return torch.clamp(scaled + node.output.zero_point, node.clip_min, node.clip_max)
    if isinstance(node, Lookup):
        return torch.from_numpy(node.table.astype(np.int64))[value & 255]
    if isinstance(node, SelectChannels):
        starts = np.cumsum([0, *(operand.shape[1] for operand in operands)])
        index = starts[node.channels[:, 0]] + node.channels[:, 1]
        return torch.cat(operands, dim=1)[:, torch.from_numpy(index)]
    if isinstance(node, Upsample):
        return functional.interpolate(value.double(), scale_factor=2, mode="nearest").long()
    assert isinstance(node, Clip), node
    return torch.clamp(value, node.clip_min, node.clip_max)


def _convolve_deformable(
    node: DeformableConvolution, operands: list[Tensor], zero_point: int
) -> Tensor:
    """Return bias + sums; positions and samples are float64, which holds them exactly."""
    value, offsets = (operands[0] - zero_point).double(), operands[1]
    kernel = node.weight.shape[2:]
    height, width = offsets.shape[2:]
    grid_y = (torch.arange(height) * node.stride[0] - node.padding.top)[:, None]
    grid_x = (torch.arange(width) * node.stride[1] - node.padding.left)[None, :]
    sums = torch.from_numpy(node.bias.astype(np.int64))[:, None, None]
    for tap, (ky, kx) in enumerate(np.ndindex(*kernel)):
        down, right = _displacement(node.sampling, offsets, (kernel[0], kernel[1]), tap)
        y = grid_y + ky * node.dilation[0] + down
        x = grid_x + kx * node.dilation[1] + right
        if not node.sampling.interpolate:
            y, x = torch.floor(y + 0.5), torch.floor(x + 0.5)
        sample = _bilinear(value, y, x)
        if len(operands) == 3:
            sample = sample * ((operands[2][:, tap, None] + 128) / 128)
        rounded = torch.clamp(torch.round(sample) + zero_point, -128, 127) - zero_point
        weight = torch.from_numpy(node.weight[:, :, ky, kx, None, None].astype(np.int32))
        sums = sums + functional.conv2d(rounded.int(), weight, groups=node.groups).long()
    return sums


def _displacement(
    sampling: Sampling, offsets: Tensor, kernel: tuple[int, int], tap: int
) -> tuple[Tensor, Tensor]:
    """Return rows and columns, in pixels, that a tap moves by."""
    moves = torch.clamp(offsets, sampling.minimum, sampling.maximum) / 2.0**sampling.fraction_bits
    if sampling.offsets is Offsets.SCALED:
        ky, kx = divmod(tap, kernel[1])
        return moves[:, 0] * (ky - (kernel[0] - 1) / 2), moves[:, 0] * (kx - (kernel[1] - 1) / 2)
    return moves[:, 2 * tap], moves[:, 2 * tap + 1]


def _bilinear(value: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the values (images, channels, ...) between pixels, 0 outside: rows after columns."""
    images, channels, height, width = value.shape
    border = 2
    padded = functional.pad(value, (border,) * 4)
    y, x = torch.clamp(y, -border, height), torch.clamp(x, -border, width)
    row, column = torch.floor(y), torch.floor(x)
    across = padded.shape[3]

    def at(down: int, right: int) -> Tensor:
        place = ((row.long() + down + border) * across + column.long() + right + border)
        index = place.reshape(images, 1, -1).expand(-1, channels, -1)
        return padded.flatten(2).gather(2, index).reshape(images, channels, *y.shape[1:])

    over, under = ((x - column)[:, None], (y - row)[:, None])
    top = at(0, 0) + over * (at(0, 1) - at(0, 0))
    bottom = at(1, 0) + over * (at(1, 1) - at(1, 0))
    return top + under * (bottom - top)


def _dilated(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """Return the kernel with zeros between its taps: torch dilates no integer convolutions."""
    height, width = (d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True))
    dilated = weight.new_zeros(*weight.shape[:2], height, width)
    dilated[:, :, ::dilation[0], ::dilation[1]] = weight
    return dilated


def _pad(value: Tensor, padding: Padding, fill: int) -> Tensor:
    sides = (padding.left, padding.right, padding.top, padding.bottom)
    return functional.pad(value, sides, value=fill)


def _requantize(sums: Tensor, how: Requantization, multiplier_bits: int) -> Tensor:
    multiplier, shift = (torch.from_numpy(array)[:, None, None] for array in
                         (how.multiplier, how.shift))
    product = sums * multiplier
    if how.rounding is Rounding.GEMMLOWP:
        high = _high_multiply(product, multiplier_bits)
        scaled = _divide(high, shift - multiplier_bits, how.rounding)
    else:
        scaled = _divide(product, shift, how.rounding)
    return torch.clamp(scaled + how.zero_point, how.clip_min, how.clip_max)


def _divide(value: Tensor, shift: Tensor, rounding: Rounding) -> Tensor:
    """Return ``value / 2**shift``, rounded."""
    if rounding is Rounding.GEMMLOWP:
        return _rounding_divide_by_power(value, shift)
    divisor = torch.ones_like(shift) << shift
    quotient = torch.div(value, divisor, rounding_mode="floor")
    twice = 2 * torch.remainder(value, divisor)
    tie_up = quotient % 2 == 1 if rounding is Rounding.HALF_EVEN else torch.tensor(True)
    return quotient + ((twice > divisor) | ((twice == divisor) & tie_up)).long()


def _high_multiply(product: Tensor, bits: int) -> Tensor:
    """Return gemmlowp's SaturatingRoundingDoublingHighMul after its multiplication."""
    half = 1 << (bits - 1)
    nudge = torch.where(product >= 0, half, 1 - half)
    return torch.div(product + nudge, 1 << bits, rounding_mode="trunc")


def _rounding_divide_by_power(value: Tensor, exponent: Tensor) -> Tensor:
    """Return gemmlowp's RoundingDivideByPOT."""
    mask = (torch.ones_like(exponent) << exponent) - 1
    threshold = (mask >> 1) + (value < 0).long()
    return (value >> exponent) + ((value & mask) > threshold).long()
