"""Concat, split, slice, shuffle and upsampling become selections of channels with one scale."""

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from pliant.compiler.graph import SelectChannels, Upsample
from pliant.compiler.reference import evaluate
from pliant.compiler.validate import validate_graph
from pliant_models.capture import UnsupportedLayerError
from pliant_models.deformable import DeformableConv2d, Offsets, Sampling
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize


class Wrapped(nn.Module):
    """`function` of three convolutions' results, of 4, 6 and 4 channels; then upsampled."""

    def __init__(self, function) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, out, 3, padding=1) for out in (4, 6, 4))
        self.function = function

    def forward(self, x):
        first, second, third = (conv(x) for conv in self.convs)
        return self.function(functional.relu(first), second, third)


def shuffle(x, groups=2):
    images, channels, height, width = x.shape
    x = x.view(images, groups, channels // groups, height, width).transpose(1, 2)
    return x.reshape(images, channels, height, width)


CASES = {
    "concat": (lambda a, b, c: torch.cat([c, a, b], 1), 1),
    "concat of negative axis": (lambda a, b, c: torch.cat([a, b], -3), 1),
    "chunk": (lambda a, b, c: b.chunk(2, 1)[1], 1),
    "split": (lambda a, b, c: torch.split(b, [1, 3, 2], dim=1)[1], 1),
    "even split": (lambda a, b, c: torch.split(b, 4, dim=1)[1], 1),
    "slice": (lambda a, b, c: b[:, 1:6:2], 1),
    "last": (lambda a, b, c: b[:, -2:], 1),
    "shuffle": (lambda a, b, c: shuffle(b, 3), 1),
    "permute": (lambda a, b, c: b.view(-1, 2, 3, 9, 8).permute(0, 2, 1, 3, 4).reshape(
        -1, 6, 9, 8), 1),
    "unit": (lambda a, b, c: shuffle(torch.cat([shuffle(b).chunk(2, 1)[0], c], 1)[:, :6]), 1),
    "twice": (lambda a, b, c: torch.cat([a, a], 1), 1),
    "everything again": (lambda a, b, c: torch.cat(b.chunk(2, 1), 1), 0),
    "reader between": (lambda a, b, c: torch.cat([functional.max_pool2d(
        torch.cat([a, c], 1), 3, 1, 1), b], 1), 2),
}


def quantized(function, example=(1, 3, 9, 8)):
    torch.manual_seed(4)
    network = Wrapped(function).eval()
    with torch.no_grad():
        network.convs[2].weight *= 5
    model = quantize(network, torch.zeros(example))
    calibrate(model, [torch.randn(8, *example[1:])])
    return network, model


@pytest.mark.parametrize("case", CASES)
def test_channels_are_moved_as_in_the_float_model(case):
    function, selections = CASES[case]
    network, model = quantized(function)
    graph = export(model, name="moved")
    selects = [node for node in graph.nodes if isinstance(node, SelectChannels)]
    assert len(selects) == selections
    assert not any(source in {node.name for node in selects} for node in selects
                   for source in node.inputs)
    images = torch.randn(5, 3, 9, 8)
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
    (output,) = graph.outputs
    scale = graph.tensors()[output].scale
    with torch.no_grad():
        real = network(images).numpy()
    assert real.shape == found[output].shape
    assert np.abs(found[output] * scale - real).mean() < 0.1 * np.abs(real).mean()


def test_joined_tensors_share_one_scale_and_others_do_not():
    _, model = quantized(lambda a, b, c: (torch.cat([a, functional.max_pool2d(c, 1)], 1), b))
    tensors = export(model, name="joined").tensors()
    scales = {name: tensors[f"convs.{name}"].scale for name in "012"}
    assert scales["0"] == scales["2"]
    assert scales["1"] < scales["2"]
    model.train()
    first, second = model(torch.randn(4, 3, 9, 8))
    (first.square().sum() + second.sum()).backward()
    quantizers = [name for name, _ in model.named_parameters() if "quant" in name]
    assert len(quantizers) == len(set(quantizers)) == 3  # the input's, b's, and one for a and c


def test_joined_tensors_are_calibrated_for_the_widest_range():
    _, model = quantized(lambda a, b, c: (torch.cat([a, c], 1), functional.max_pool2d(c, 1)))
    _, alone = quantized(lambda a, b, c: (a, functional.max_pool2d(c, 1)))
    joined, separate = (export(each, name="range").tensors() for each in (model, alone))
    assert joined["convs.0"].scale == joined["convs.2"].scale == separate["convs.2"].scale
    assert separate["convs.0"].scale < separate["convs.2"].scale


def test_upsampling_doubles_rows_and_columns():
    _, model = quantized(lambda a, b, c: functional.interpolate(
        b, scale_factor=2, mode="nearest"))
    graph = export(model, name="upsampled")
    assert isinstance(graph.nodes[-1], Upsample)
    integers = model_integers(model, torch.randn(2, 3, 9, 8))
    found = evaluate(graph, integers[graph.inputs[0].name])[graph.outputs[0]]
    assert found.shape == (2, 6, 18, 16)
    np.testing.assert_array_equal(found, integers[graph.outputs[0]])


def test_offsets_joined_to_features_of_a_fixed_scale_are_refused():
    class Conflict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offsets = nn.Conv2d(3, 2, 1)
            self.layers = nn.ModuleList(DeformableConv2d(3, 3, 1, sampling=Sampling(
                offsets=Offsets.PER_TAP, fraction_bits=bits)) for bits in (4, 3))

        def forward(self, x):
            offsets = self.offsets(x)
            return self.layers[0](x, offsets) + self.layers[1](x, offsets)

    with pytest.raises(UnsupportedLayerError, match=r"scale 0.125, which has 0.0625"):
        quantize(Conflict(), torch.zeros(1, 3, 5, 5))


@pytest.mark.parametrize(("function", "reason"), [
    (lambda a, b, c: torch.cat([a, c], 2), "works along axis 2"),
    (lambda a, b, c: b[:, :, 1:], "cuts along axis 2"),
    (lambda a, b, c: b.transpose(2, 3), "works along axis 2"),
    (lambda a, b, c: b.permute(0, 3, 1, 2), "permutes the axes"),
    (lambda a, b, c: b.chunk(2, 3)[0], "works along axis 3"),
    (lambda a, b, c: functional.interpolate(b, scale_factor=3, mode="nearest"),
     "resizes 9x8 to 27x24"),
    (lambda a, b, c: functional.interpolate(b, scale_factor=2, mode="bilinear"),
     "no such operator"),
])
def test_moving_pixels_is_unsupported(function, reason):
    with pytest.raises(UnsupportedLayerError, match=reason):
        quantize(Wrapped(function), torch.zeros(1, 3, 9, 8))


class Pooled(nn.Module):
    """`function` of two pools of one pixel, flattened; then a linear layer."""

    def __init__(self, function, features, side=1) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3, padding=1), function
        self.classify, self.side = nn.Linear(features, 5), side

    def forward(self, x):
        x = self.conv(x)
        mean = functional.adaptive_avg_pool2d(x, self.side).flatten(1)
        return self.classify(self.function(mean, functional.max_pool2d(
            x, 8 // self.side).flatten(1)))


@pytest.mark.parametrize(("function", "features"), [
    (lambda a, b: torch.cat([a, b], 1), 8), (lambda a, b: torch.cat([b, a, b[:, 1:3]], 1), 10),
    (lambda a, b: a[:, 1:], 3), (lambda a, b: a.chunk(2, 1)[1] + b.chunk(2, 1)[0], 2),
])
def test_flattened_pixels_are_joined_and_split_as_channels(function, features):
    torch.manual_seed(1)
    model = quantize(Pooled(function, features), torch.zeros(1, 3, 8, 8))
    calibrate(model, [torch.randn(8, 3, 8, 8)])
    graph = export(model, name="pooled")
    validate_graph(graph)
    images = torch.randn(5, 3, 8, 8)
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)


@pytest.mark.parametrize("function", [
    lambda a, b: torch.cat([a, b], 1)[:, :8], lambda a, b: a[:, 4:12],
    lambda a, b: a.chunk(2, 1)[0]])
def test_flattened_images_are_not_joined_or_split(function):
    with pytest.raises(UnsupportedLayerError, match=r"'(cat|slice|chunk)'.*4x2x2.*before"):
        quantize(Pooled(function, 8, side=2), torch.zeros(1, 3, 8, 8))


def test_channels_are_not_moved_into_the_batch():
    with pytest.raises(UnsupportedLayerError,
                       match=r"'reshape'.*\(6, 9, 8\) to \(3, 9, 8\).*only channels"):
        quantize(Wrapped(lambda a, b, c: b.reshape(-1, 3, 9, 8)), torch.zeros(1, 3, 9, 8))
