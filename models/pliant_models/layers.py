"""Layers of quantized networks that Brevitas lacks, working on its quantized tensors."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as functional
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

POOL_MULTIPLIER_BITS = 16
"""Bits of the integer M in the division of average pooling, ``sum * M * 2**-s``."""


Value: TypeAlias = "Tensor | IntQuantTensor"
"""What passes between layers: quantized tensors, plain ones while scales are calibrated."""


def real(value: Value) -> Tensor:
    """Return the real values of a tensor, quantized or not."""
    if isinstance(value, IntQuantTensor):
        return value.value  # type: ignore[no-any-return]
    return value


class Sum(nn.Module):
    """Adds two quantized tensors of one shape; the result, a float tensor, awaits quantization."""

    def forward(self, first: Value, second: Value) -> Tensor:
        """Return the sum of the real values."""
        return real(first) + real(second)


class Clamp(nn.Module):
    """Clips a quantized tensor and keeps its scale: a ReLU that could not be fused.

    Bounds off the grid are rounded to it, ties to even, as a quantizer after the clip would.
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
        return torch.round(torch.as_tensor(bound, dtype=scale.dtype) / scale) * scale


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
