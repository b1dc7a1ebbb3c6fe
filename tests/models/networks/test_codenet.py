import functools

import numpy as np
import pytest
import torch
from torch import nn

from pliant.compiler.graph import (
    Convolution,
    DeformableConvolution,
    DepthwiseConvolution,
    Graph,
    GraphError,
    Tensor,
    Upsample,
)
from pliant.compiler.reference import evaluate, graph_macs
from pliant.spec.sampling import Offsets
from pliant_models.deformable import DeformableConv2d
from pliant_models.export import model_integers
from pliant_models.networks import DETECTORS, golden_detector, named_detector
from pliant_models.networks.codenet import CONFIGURATIONS, CoDeNet, codenet, layer_bits
from pliant_models.networks.detectors import export_detector, random_detector
from pliant_models.networks.peaks import append_peaks
from pliant_models.photographs import crops

GIGAMACS = {"a": 0.280, "b": 0.288, "c": 1.119, "d": 3.507, "e": 3.539}
"""As published."""

TINY = (8, 16, 32, 48, 64)


@functools.cache
def tiny(pooled: bool, interpolate: bool = True):
    network = CoDeNet(channels=TINY, pooled=pooled, classes=5, interpolate=interpolate)
    model = random_detector(network, 64)
    graph = export_detector(model, name="tiny")
    return graph, model_integers(model, crops(3, 64, seed=7))


def multiply_accumulates(network: nn.Module, size: int) -> int:
    """Return those of all convolutions, taps on padding included."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    return total


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_have_the_published_multiply_accumulates(name):
    macs = multiply_accumulates(codenet(name).eval(), CONFIGURATIONS[name].size)
    assert abs(macs / 1e9 - GIGAMACS[name]) < 0.0006


@pytest.mark.parametrize(("name", "interpolate"), [
    ("codenet_d", True), ("codenet_d_nearest", False)])
def test_taps_between_pixels_are_interpolated_or_take_the_nearest(name, interpolate):
    network, size = named_detector(name)
    assert size == 512
    found = {module.sampling.interpolate for module in network.modules()
             if isinstance(module, DeformableConv2d)}
    assert found == {interpolate}


@pytest.mark.parametrize(("pooled", "interpolate"), [(False, False), (True, True)])
def test_model_in_float64_equals_the_integer_graph_in_every_layer(pooled, interpolate):
    graph, integers = tiny(pooled, interpolate)
    found = evaluate(graph, integers[graph.inputs[0].name])
    assert set(found) - set(integers) == {"peaks", "peaks.maximum"}
    for tensor, value in integers.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
        saturated = ((value == 127) | (value == -128)).mean()
        assert saturated < 0.05, f"{tensor}: {saturated:.1%} of the values saturate"
        assert len(np.unique(value)) > 4, f"{tensor} hardly uses int8"


def test_all_weights_have_4_bits_but_those_of_the_stem():
    graph, _ = tiny(False)
    kinds = (Convolution, DepthwiseConvolution, DeformableConvolution)
    stem, *others = (node for node in graph.nodes if isinstance(node, kinds))
    assert np.abs(stem.weight.astype(int)).max() > 100
    assert all(np.abs(node.weight.astype(int)).max() <= 7 for node in others)
    network = CoDeNet()
    assert len(layer_bits(network)) == len(others) + 1
    assert set(layer_bits(network)) == {
        name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def test_decoder_is_three_depthwise_deformable_convolutions_and_upsamplings():
    graph, integers = tiny(False)
    layers = [node for node in graph.nodes if isinstance(node, DeformableConvolution)]
    assert [node.output.shape[0] for node in layers] == [64, 256, 128]
    assert sum(isinstance(node, Upsample) for node in graph.nodes) == 3
    for node in layers:
        assert node.groups == len(node.weight)
        assert node.sampling.offsets is Offsets.SCALED
        assert (node.sampling.minimum, node.sampling.maximum) == (-128, 112)
        offsets = integers[node.inputs[1]]
        assert offsets.max() <= 112
        assert len(np.unique(offsets % 16)) > 4, "no fractions"
    assert [graph.tensors()[name].shape for name in graph.outputs] == [
        (5, 16, 16), (2, 16, 16), (2, 16, 16)]


def test_an_untrained_decoder_begins_with_plain_convolutions():
    network = CoDeNet(channels=TINY).eval()
    seen = []
    for module in network.modules():
        if isinstance(module, DeformableConv2d):
            module.register_forward_hook(lambda _, inputs, output: seen.append(inputs[1]))
    network(torch.randn(1, 3, 64, 64))
    assert len(seen) == 3
    assert all((offsets == 0).all() for offsets in seen)


@pytest.mark.parametrize("zero_point", [0, -7, 100])
def test_peaks_are_the_local_maxima_and_minus_128_elsewhere(zero_point):
    rng = np.random.default_rng(5)
    shape = (3, 9, 11)
    source = Tensor(name="x", shape=shape, scale=0.25, zero_point=zero_point)
    graph = append_peaks(Graph(name="g", inputs=(source,), nodes=(), outputs=("x",)), "x")
    values = rng.integers(-128, 128, (20, *shape)).astype(np.int8)
    values[10:] //= 50  # plateaus
    found = evaluate(graph, values)["peaks"]
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-128)
    around = np.max([padded[:, :, y:y + 9, x:x + 11] for y in range(3) for x in range(3)], axis=0)
    np.testing.assert_array_equal(found, np.where(values == around, values, -128))
    assert graph.outputs == ("peaks",)
    assert graph.tensors()["peaks"].scale == 0.25


def test_peaks_are_right_for_every_pair_of_a_value_and_a_maximum():
    source = Tensor(name="x", shape=(1, 1, 2))
    graph = append_peaks(Graph(name="g", inputs=(source,), nodes=(), outputs=("x",)), "x")
    pairs = np.array([(x, m) for x in range(-128, 128) for m in range(x, 128)], np.int8)
    found = evaluate(graph, pairs.reshape(-1, 1, 1, 2))["peaks"].reshape(-1, 2)
    x, maximum = pairs.T
    np.testing.assert_array_equal(found[:, 0], np.where(x == maximum, x, -128))
    np.testing.assert_array_equal(found[:, 1], maximum)


def test_peaks_of_a_tensor_that_is_no_output_are_refused():
    graph, _ = tiny(False)
    with pytest.raises(GraphError, match=r"no output 'stem'"):
        append_peaks(graph, "stem")


@pytest.mark.slow
# Larger ones differ in size alone.
@pytest.mark.parametrize("name", ["codenet_a_nearest", "codenet_b"])
def test_full_size_networks_equal_their_models(name):
    network = golden_detector(name)
    found = evaluate(network.graph, network.images)
    for tensor, value in network.integers.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
    tensors = network.graph.tensors()
    macs = sum(graph_macs(node, tensors[node.inputs[0]].shape) for node in network.graph.nodes)
    published = GIGAMACS[DETECTORS[name][0]] * 1e9
    assert 0.99 * published < macs < published  # taps on padding do not count
