"""Layers of quantized networks that Brevitas lacks, working on its quantized tensors."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
import torch.nn.functional as functional
from brevitas.function.ops_ste import round_ste
from brevitas.nn import QuantConv2d
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant.spec.sampling import MASK_ONE, Sampling
from pliant_models import deformable

POOL_MULTIPLIER_BITS = 16
"""Bits of the integer M in the division of average pooling, ``sum * M * 2**-s``."""


Value: TypeAlias = "Tensor | IntQuantTensor"
"""What passes between layers: quantized tensors, plain ones while scales are calibrated."""


def real(value: Value) -> Tensor:
    """Return the real values of a tensor, quantized or not."""
    if isinstance(value, IntQuantTensor):
        return value.value  # type: ignore[no-any-return]
    return value


def like(value: Value, result: Tensor) -> Value:
    """Return `result` with the scale of `value`, if that is quantized."""
    if not isinstance(value, IntQuantTensor):
        return result
    quantized: IntQuantTensor = value.set(value=result)
    return quantized


class Sum(nn.Module):
    """Adds two quantized tensors of one shape; the result, a float tensor, awaits quantization."""

    def forward(self, first: Value, second: Value) -> Tensor:
        """Return the sum of the real values."""
        return real(first) + real(second)


class Clamp(nn.Module):
    """Clips a quantized tensor and keeps its scale: a ReLU that could not be fused.

    Bounds off the grid are rounded to it, ties to even, and those that int8 cannot hold become its
    ends, as by a quantizer after the clip.
    """

    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__()
        self.minimum = minimum
        self.maximum = maximum

    def forward(self, value: Value) -> Value:
        """Return the clipped tensor."""
        if not isinstance(value, IntQuantTensor):
            return torch.clamp(real(value), self.minimum, self.maximum)
        bounds = [self._on_grid(bound, value.scale) for bound in (self.minimum, self.maximum)]
        clipped: IntQuantTensor = value.set(value=torch.clamp(value.value, *bounds))
        return clipped

    @staticmethod
    def _on_grid(bound: float, scale: Tensor) -> Tensor:
        integer = torch.round(torch.as_tensor(bound, dtype=scale.dtype) / scale)
        return integer.clamp(INT8_MIN, INT8_MAX) * scale


class SelectChannels(nn.Module):
    """Takes channels from tensors of one size that share a quantizer: concat, split, shuffle.

    Parameters
    ----------
    channels : Tensor
        int64 (out, 2): for each channel, the index of a tensor and a channel of it.
    sizes : list of int
        Channels of the tensors.
    """

    def __init__(self, channels: Tensor, sizes: list[int]) -> None:
        super().__init__()
        first = torch.tensor([sum(sizes[:index]) for index in range(len(sizes))])
        self.channels = channels
        self.register_buffer("_joined", first[channels[:, 0]] + channels[:, 1], persistent=False)

    def forward(self, *values: Value) -> Value:
        """Return the selected channels."""
        joined = torch.cat([real(value) for value in values], 1)
        selected = joined.index_select(1, self._joined)  # type: ignore[arg-type]
        return like(values[0], selected)


class Upsample(nn.Module):
    """Nearest neighbour, twice the rows and columns."""

    def forward(self, value: Value) -> Value:
        """Return every pixel as 2x2."""
        return like(value, functional.interpolate(real(value), scale_factor=2, mode="nearest"))


class Sigmoid(nn.Module):
    """The logistic function as a mask of deformable convolutions: int8 with zero point -128.

    Its scale is ``1 / MASK_ONE``: what a mask's factors 0..1 are.
    """

    def forward(self, value: Value) -> Value:
        """Return factors, rounded half to even where `value` is quantized."""
        factors = torch.sigmoid(real(value))
        if not isinstance(value, IntQuantTensor):
            return factors
        scale = torch.full_like(value.scale, 1 / MASK_ONE)
        rounded: IntQuantTensor = value.set(
            value=round_ste(factors * MASK_ONE) / MASK_ONE, scale=scale,
            zero_point=torch.full_like(value.zero_point, -MASK_ONE))
        return rounded


class QuantDeformableConv2d(QuantConv2d):  # type: ignore[misc]
    """A deformable convolution: samples at the scale of the input, then as any convolution.

    Computes what :mod:`pliant.spec.sampling` defines, in float64 to the last bit; gradients go
    straight through the rounding of samples.

    Parameters
    ----------
    sampling : Sampling
    arguments : dict
        Of QuantConv2d.
    """

    def __init__(self, *, sampling: Sampling, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.taps = deformable.Taps(kernel=self.kernel_size, stride=self.stride,
                                    padding=self.padding, dilation=self.dilation,
                                    sampling=sampling)

    def forward(  # type: ignore[override]
        self, value: Value, offsets: Value, mask: Value | None = None
    ) -> Tensor:
        """Return the sums, float."""
        read = deformable.samples(real(value), real(offsets),
                                  None if mask is None else real(mask), self.taps)
        weight, bias = self.quant_weight(), self.bias
        if isinstance(value, IntQuantTensor):
            read = torch.clamp(round_ste(read / value.scale), INT8_MIN, INT8_MAX) * value.scale
            if bias is not None:
                bias = real(self.bias_quant(bias, value, weight))
        return deformable.contract(read, real(weight), bias, self.groups)


class AveragePool(nn.Module):
    """Mean over windows as ``sum * M * 2**-s``; the result awaits quantization.

    M has at most 16 bits, so that the division is an integer multiplication in hardware: exact for
    windows of a power of two, within 2**-16 of the quotient for others. Padding counts as zeros.

    Parameters
    ----------
    kernel, stride, padding : (int, int)
        Rows and columns.
    """

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.reciprocal = dyadic_reciprocal(kernel[0] * kernel[1])

    def forward(self, value: Value) -> Tensor:
        """Return the means, float."""
        sums = functional.avg_pool2d(real(value), self.kernel, self.stride, self.padding,
                                     divisor_override=1)
        return sums * self.reciprocal


def dyadic_reciprocal(divisor: int) -> float:
    """Return ``1 / divisor`` to POOL_MULTIPLIER_BITS bits, ties to even."""
    mantissa, exponent = math.frexp(1.0 / divisor)
    return math.ldexp(round(math.ldexp(mantissa, POOL_MULTIPLIER_BITS)),
                      exponent - POOL_MULTIPLIER_BITS)
