"""Examples, images and weights that cannot be meant are refused in words, before any arithmetic."""

import pytest
import torch
from torch import nn

from pliant.compiler.graph import GraphError
from pliant_models.capture import CaptureError, UnsupportedLayerError
from pliant_models.export import export, input_integers, model_integers
from pliant_models.quantize import calibrate, quantize

NAN, INFINITY = float("nan"), float("inf")


def convolution(channels: int = 3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3))


def quantized():
    return quantize(convolution(), torch.zeros(1, 3, 6, 5))


@pytest.mark.parametrize(("example", "words"), [
    (torch.zeros(3, 6, 5), r"\(3, 6, 5\).*\(images, channels, height, width\)"),
    (torch.zeros(1, 16), r"\(1, 16\).*\(images, channels, height, width\)"),
    (torch.zeros(0, 3, 6, 5), "one image or more"),
    (torch.zeros(1, 3, 6, 5, dtype=torch.int64), r"torch\.int64.*float"),
    ([1, 2], "list"),
])
def test_examples_that_are_no_images_are_refused(example, words):
    with pytest.raises(ValueError, match=f"example.*{words}"):
        quantize(convolution(), example)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_and_examples_of_any_float_type_are_quantized(dtype):
    model = quantize(convolution().to(dtype), torch.zeros(1, 3, 6, 5))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    quantize(convolution(), torch.zeros(1, 3, 6, 5, dtype=dtype))


class TwoInputs(nn.Module):
    def forward(self, first, second):
        return first + second


class Undecided(nn.Module):
    def forward(self, value):
        return value if value.sum() > 0 else -value


@pytest.mark.parametrize("model", [TwoInputs(), Undecided(), convolution(7)])
def test_models_that_cannot_be_traced_are_refused_with_the_reason(model):
    with pytest.raises(CaptureError, match=f"{type(model).__name__} cannot be traced.*: .+"):
        quantize(model, torch.zeros(1, 3, 6, 5))


@pytest.mark.parametrize(("batches", "words"), [
    ([], "no images"), ([torch.zeros(0, 3, 6, 5)], "no images"),
    ([torch.rand(2, 3, 6, 5), torch.rand(2, 4, 6, 5)],
     r"batch 1.*\(2, 4, 6, 5\).*\(images, 3, height, width\)"),
    ([torch.rand(3, 6, 5)], r"batch 0.*\(3, 6, 5\)"),
    ([torch.zeros(2, 3, 6, 5, dtype=torch.uint8)], r"batch 0.*torch\.uint8.*float"),
    ([torch.full((2, 3, 6, 5), NAN)], "batch 0.*no numbers"),
    ([torch.full((2, 3, 6, 5), INFINITY)], "batch 0.*infinite"),
])
def test_calibration_with_other_than_images_is_refused(batches, words):
    with pytest.raises(ValueError, match=words):
        calibrate(quantized(), batches)


@pytest.mark.parametrize("function", [model_integers, input_integers])
@pytest.mark.parametrize(("images", "words"), [
    (torch.rand(2, 3, 6, 4), r"\(2, 3, 6, 4\).*\(images, 3, 6, 5\)"),
    (torch.rand(3, 6, 5), r"\(3, 6, 5\).*\(images, 3, 6, 5\)"),
    (torch.full((1, 3, 6, 5), NAN), "no numbers"), (torch.zeros(1, 3, 6, 5).long(), "int64"),
])
def test_integers_of_other_than_images_are_refused(function, images, words):
    model = quantized()
    calibrate(model, [torch.rand(2, 3, 6, 5)])
    with pytest.raises(ValueError, match=words):
        function(model, images)


@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_weights_that_are_no_numbers_are_refused_by_layer(parameter, value):
    model = convolution()
    getattr(model[0], parameter).data.view(-1)[1] = value
    with pytest.raises(UnsupportedLayerError, match=f"layer '0'.*{parameter}.*no numbers"):
        quantize(model, torch.zeros(1, 3, 6, 5))


@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_weights_that_training_has_ruined_are_refused_by_layer(parameter):
    model = quantized()
    calibrate(model, [torch.rand(2, 3, 6, 5)])
    getattr(model.get_submodule("0"), parameter).data.view(-1)[1] = NAN
    with pytest.raises(GraphError, match=f"layer '0'.*{parameter}"):
        export(model, name="ruined")


def test_scales_that_are_no_numbers_are_refused_by_tensor():
    model = quantized()
    calibrate(model, [torch.rand(2, 3, 6, 5)])
    for name, value in model.named_parameters():
        if name.startswith("0_quant"):
            value.data.fill_(NAN)
    with pytest.raises(GraphError, match=r"tensor '0'.*scale nan"):
        export(model, name="ruined")
