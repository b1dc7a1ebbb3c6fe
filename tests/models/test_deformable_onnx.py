"""Deformable convolution against ONNX Runtime's DeformConv, whose samples are not rounded.

Each sample of ours is off by at most half a step of the input's scale, so a sum before
requantization is off by at most ``0.5 * scale * sum(|weights|)``. Masks of at most 1, as sigmoids
are, let no sample saturate.
"""

import functools

import numpy as np
import onnxruntime
import pytest
import torch
from brevitas.nn import QuantIdentity
from onnx import TensorProto, helper

from pliant.spec.sampling import MASK_ONE, Offsets, Sampling
from pliant_models.layers import QuantDeformableConv2d
from pliant_models.quantizers import (
    BiasQuantizer,
    WeightQuantizer,
    constant_activation_quantizer,
)

OPSET = 22
INPUT_SCALE = 2.0**-5
FLOAT32_SLACK = 1e-5

CASES = {
    "plain bounds": (Offsets.PER_TAP, 1, {"stride": 1, "padding": 1, "dilation": 1}),
    "scaled depthwise": (Offsets.SCALED, 8, {"stride": 1, "padding": 1, "dilation": 1}),
    "scaled": (Offsets.SCALED, 1, {"stride": 1, "padding": 1, "dilation": 1}),
    "strided groups": (Offsets.PER_TAP, 2, {"stride": 2, "padding": 3, "dilation": 2}),
    "modulated": (Offsets.MODULATED, 1, {"stride": 1, "padding": 1, "dilation": 1}),
    "modulated depthwise": (Offsets.MODULATED, 8, {"stride": 2, "padding": 2, "dilation": 1}),
}


def quantized(values: torch.Tensor, scale: float):
    identity = QuantIdentity(act_quant=constant_activation_quantizer(scale),
                             return_quant_tensor=True)
    return identity.double().eval()(values)


def per_tap(offsets: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Return the offsets as rows and columns of each tap of a 3x3 kernel, clamped."""
    clamped = offsets.clamp(sampling.minimum / 16, sampling.maximum / 16)
    if sampling.offsets is not Offsets.SCALED:
        return clamped
    anchors = torch.tensor([[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1)]).double()
    return clamped * anchors.reshape(1, 18, 1, 1)


def onnx_runtime(image, weight, offsets, bias, mask, *, groups, stride, padding, dilation):
    names = ["image", "weight", "offsets", "bias", *([] if mask is None else ["mask"])]
    values = [value.detach().float().numpy() for value in (image, weight, offsets, bias, mask)
              if value is not None]
    node = helper.make_node("DeformConv", names, ["result"], group=groups, strides=[stride] * 2,
                            pads=[padding] * 4, dilations=[dilation] * 2, kernel_shape=[3, 3])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
              for name, value in zip(names, values, strict=True)]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "deformable", inputs, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, values, strict=True)))[0]


@functools.cache
def both(name: str, whole: bool):
    """Return our sums, ONNX Runtime's, and the bound on their distance for each channel."""
    mode, groups, window = CASES[name]
    sampling = Sampling(offsets=mode, minimum=-64, maximum=80)
    torch.manual_seed(sum(map(ord, name)))
    layer = QuantDeformableConv2d(
        sampling=sampling, in_channels=8, out_channels=8, kernel_size=3, groups=groups, bias=True,
        weight_quant=WeightQuantizer, bias_quant=BiasQuantizer, **window).double().eval()
    image = quantized(torch.randn(2, 8, 13, 12, dtype=torch.float64) * 1.2, INPUT_SCALE)
    weight = layer.quant_weight()
    size = torch.nn.functional.conv2d(image.value, weight.value, None, groups=groups,
                                      **window).shape[2:]
    raw = torch.randn(2, sampling.offset_channels((3, 3)), *size, dtype=torch.float64) * 3
    offsets = quantized(raw.round() if whole else raw, 2.0**-4)
    mask = None
    if mode is Offsets.MODULATED:
        mask = torch.randint(0, MASK_ONE + 1, (2, 9, *size)).double() / MASK_ONE
        mask = torch.ones_like(mask) if whole else mask
    with torch.no_grad():
        found = layer(image, offsets, *([] if mask is None else [mask]))
        bias = layer.bias_quant(layer.bias, image, weight).value
    expected = onnx_runtime(image.value, weight.value, per_tap(offsets.value, sampling), bias,
                            mask, groups=groups, **window)
    bound = 0.5 * INPUT_SCALE * weight.value.abs().sum((1, 2, 3))
    return found.numpy(), expected, bound.detach().numpy().reshape(1, -1, 1, 1)


@pytest.mark.parametrize("name", CASES)
def test_sums_stay_within_half_a_step_of_every_sample(name):
    found, expected, bound = both(name, whole=False)
    assert found.shape == expected.shape
    error = np.abs(found - expected)
    assert (error <= bound + FLOAT32_SLACK).all()
    assert (error / bound).max() > 0.1, "rounding of samples hardly shows"
    assert np.abs(expected).max() > 10 * bound.max(), "results are as small as the bound"


@pytest.mark.parametrize("name", CASES)
def test_whole_offsets_give_equal_sums(name):
    found, expected, _ = both(name, whole=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32_SLACK)
