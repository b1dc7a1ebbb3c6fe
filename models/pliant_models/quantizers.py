"""Brevitas quantizers whose arithmetic is integer arithmetic: the native contract.

Activations are int8 with one power-of-two scale, weights int8 in -127..127 or int4 in -7..7 with a
dyadic scale ``M * 2**-t`` (M of 8 bits) for each output channel, biases int32 at the product of the
two. So the scale from accumulator to output is exactly ``M * 2**-s``, and the Brevitas model
evaluated in float64 computes the same integers as the graph that is exported from it. All rounding
is to nearest, ties to even.
"""

from __future__ import annotations

from typing import Any

import torch
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8WeightPerChannelFloat, Int32Bias
from torch import Tensor, nn

MANTISSA_BITS = 8
"""Bits of M in a weight scale ``M * 2**-t``; the least multiplier width of any configuration."""

SMALLEST_SCALE = 2.0**-16
"""Scales of dead tensors stop here, so that biases and shifts stay in range. A power of two."""


def round_to_dyadic(value: Tensor, bits: int = MANTISSA_BITS) -> Tensor:
    """Return the nearest ``M * 2**-t`` with an integer M of `bits` bits; `value` is positive."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits)


class _DyadicStraightThrough(torch.autograd.Function):
    """`round_to_dyadic` whose gradient is 1: ``y + (v - y).detach()`` would not be exact."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return round_to_dyadic(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class DyadicRestrictValue(nn.Module):
    """Restricts a scale to ``M * 2**-t``; for Brevitas' `restrict_scale_threshold_impl`."""

    def __init__(self) -> None:  # Brevitas' injection wants an explicit signature
        super().__init__()

    def forward(self, value: Tensor) -> Tensor:
        """Return the restricted scale, same shape and dtype."""
        rounded: Tensor = _DyadicStraightThrough.apply(value)  # type: ignore[no-untyped-call]
        return rounded


class WeightQuantizer(Int8WeightPerChannelFloat):  # type: ignore[misc]
    """int8 weights, -127..127, one dyadic scale for each output channel (maximum / 127)."""

    restrict_scale_threshold_impl = DyadicRestrictValue
    scaling_min_val = SMALLEST_SCALE


class NarrowWeightQuantizer(WeightQuantizer):
    """int4 weights, -7..7, one dyadic scale for each output channel (maximum / 7)."""

    bit_width = 4


WEIGHT_QUANTIZERS = {8: WeightQuantizer, 4: NarrowWeightQuantizer}
"""By the bits of a weight."""


class ActivationQuantizer(Int8ActPerTensorFixedPoint):  # type: ignore[misc]
    """int8 activations, -128..127, one power-of-two scale: calibrated first, then learned."""

    scaling_min_val = SMALLEST_SCALE


class BiasQuantizer(Int32Bias):  # type: ignore[misc]
    """int32 biases at the scale of the accumulator."""


def constant_activation_quantizer(scale: float) -> type[ActivationQuantizer]:
    """Return an activation quantizer with a fixed scale, which must be a power of two."""
    if not 0 < scale < float("inf") or torch.frexp(torch.tensor(scale)).mantissa != 0.5:
        raise ValueError(f"activation scale {scale!r} must be a power of two, such as 2**-6")
    quantizer: type[ActivationQuantizer] = ActivationQuantizer.let(
        scaling_impl_type="const", scaling_init=scale * 128, scaling_min_val=None)
    return quantizer
