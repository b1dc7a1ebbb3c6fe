import math

import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from brevitas.quant import Int8WeightPerChannelFloat

from pliant_models.quantizers import (
    WEIGHT_QUANTIZERS,
    ActivationQuantizer,
    BiasQuantizer,
    DyadicRestrictValue,
    WeightQuantizer,
    constant_activation_quantizer,
    round_to_dyadic,
)


def mantissa(value: float) -> int:
    """Return the odd M of ``M * 2**-t``."""
    numerator, _ = value.as_integer_ratio()
    return numerator // (numerator & -numerator)


def is_power_of_two(value: float) -> bool:
    return math.frexp(value)[0] == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dyadic_rounding_is_to_nearest_even_with_8_bits(dtype):
    values = torch.exp(torch.empty(10_000, dtype=dtype).uniform_(-20, 5))
    rounded = round_to_dyadic(values)
    assert max(mantissa(float(value)) for value in rounded) <= 255
    assert ((rounded - values).abs() / values).max() <= 2.0**-8
    assert round_to_dyadic(torch.tensor(128.5, dtype=dtype)) == 128
    assert round_to_dyadic(torch.tensor(129.5, dtype=dtype)) == 130
    assert round_to_dyadic(torch.tensor(255.5, dtype=dtype)) == 256


def test_dyadic_restriction_passes_gradients_through():
    value = torch.tensor([0.3, 0.7], requires_grad=True)
    DyadicRestrictValue()(value).sum().backward()
    assert value.grad.tolist() == [1, 1]


def quantized_conv(weight_quant=WeightQuantizer) -> tuple[QuantConv2d, QuantIdentity]:
    torch.manual_seed(0)
    conv = QuantConv2d(5, 40, 3, weight_quant=weight_quant, bias_quant=BiasQuantizer)
    conv.weight.data *= torch.logspace(-3, 1, 40).reshape(-1, 1, 1, 1)
    conv.weight.data[7] = 0  # a dead channel
    return conv.double().eval().requires_grad_(False), QuantIdentity(
        act_quant=constant_activation_quantizer(2.0**-5), return_quant_tensor=True).double().eval()


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_of_narrow_range_with_dyadic_scales(bits):
    conv, _ = quantized_conv(WEIGHT_QUANTIZERS[bits])
    weight = conv.quant_weight()
    limit = 2**(bits - 1) - 1
    integers = weight.value / weight.scale
    assert torch.equal(integers, integers.round())
    largest = integers.abs().amax(dim=(1, 2, 3))
    assert largest.max() == limit
    assert integers.min() == -limit
    assert (largest[[c for c in range(40) if c != 7]] >= limit - (bits == 8)).all()
    assert max(mantissa(float(scale)) for scale in weight.scale.flatten()) <= 255


def test_brevitas_own_float_scales_are_not_dyadic():
    weight = quantized_conv(Int8WeightPerChannelFloat)[0].quant_weight()
    assert max(mantissa(float(scale)) for scale in weight.scale.flatten()) > 255


def test_biases_are_int32_at_the_scale_of_the_accumulator():
    conv, identity = quantized_conv()
    value = identity(torch.randn(2, 5, 8, 8, dtype=torch.float64))
    weight = conv.quant_weight()
    bias = conv.bias_quant(conv.bias, value, weight)
    assert torch.equal(bias.scale.flatten(), (weight.scale * value.scale).flatten())
    integers = bias.value / bias.scale
    assert torch.equal(integers, integers.round())
    assert integers.abs().max() < 2**31


def test_learned_activation_scales_are_powers_of_two():
    identity = QuantIdentity(act_quant=ActivationQuantizer, return_quant_tensor=True)
    for _ in range(5):
        identity(torch.randn(100) * 3)
    identity.eval()
    value = identity(torch.randn(1000) * 50)
    assert is_power_of_two(float(value.scale))
    integers = value.value / value.scale
    assert (integers.min(), integers.max()) == (-128, 127)


def test_dead_activations_keep_a_power_of_two():
    identity = QuantIdentity(act_quant=ActivationQuantizer, return_quant_tensor=True)
    identity(torch.zeros(100))
    assert is_power_of_two(float(identity.double().eval()(torch.zeros(3).double()).scale))


@pytest.mark.parametrize("scale", [0.0, -0.5, 0.3, math.inf, math.nan])
def test_constant_scales_that_are_no_power_of_two_are_refused(scale):
    with pytest.raises(ValueError, match="must be a power of two"):
        constant_activation_quantizer(scale)
