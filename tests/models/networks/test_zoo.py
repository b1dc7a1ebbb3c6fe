import functools

import numpy as np
import pytest
import torch
from torch import nn

from pliant.compiler.graph import Convolution, DepthwiseConvolution
from pliant.compiler.reference import evaluate, graph_macs
from pliant_models.networks import NETWORKS, build, golden, integer_graph
from pliant_models.networks.zoo import Imported

TINY = {"width": 0.125, "size": 32, "classes": 10}

PARAMETERS = {"vgg16": 138_357_544, "resnet18": 11_689_512, "resnet50": 25_557_032,
              "mobilenetv2": 3_504_872}
"""As published; batch norm statistics do not count."""

LAYERS = {"vgg16": (13 + 3, 0), "resnet18": (17 + 3 + 1, 0), "resnet50": (49 + 4 + 1, 0),
          "mobilenetv2": (35 + 1, 17)}
"""Dense convolutions with shortcuts and linear layers, and depthwise convolutions."""


@functools.cache
def tiny(name: str) -> Imported:
    return golden(name, **TINY, images=3)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_as_many_as_published(name):
    with torch.device("meta"):
        model = NETWORKS[name](width=1.0, size=224, classes=1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_model_in_float64_equals_the_integer_graph_in_every_layer(name):
    network = tiny(name)
    found = evaluate(network.graph, network.images)
    assert list(found) == list(network.integers)
    for tensor, value in network.integers.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)


@pytest.mark.parametrize("name", NETWORKS)
def test_import_finds_every_layer(name):
    nodes = tiny(name).graph.nodes
    dense = sum(isinstance(node, Convolution) for node in nodes)
    depthwise = sum(isinstance(node, DepthwiseConvolution) for node in nodes)
    assert (dense, depthwise) == LAYERS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_use_int8_and_differ_between_photographs(name):
    network = tiny(name)
    for node in network.graph.nodes:
        value = network.integers[node.output.name]
        largest = np.abs(value.astype(int)).max()
        assert largest >= 16, f"{node.name}: values reach {largest} only"
        saturated = ((value == 127) | (value == -128)).mean()
        assert saturated < 0.05, f"{node.name}: {saturated:.1%} of the values saturate"
    logits = network.integers[network.graph.outputs[0]]
    assert len({image.tobytes() for image in logits}) == len(logits)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_the_same_every_time(name):
    graph, images = integer_graph(name, **TINY, images=3)
    np.testing.assert_array_equal(images, tiny(name).images)
    for node, other in zip(graph.nodes, tiny(name).graph.nodes, strict=True):
        assert node.output == other.output
        if isinstance(node, Convolution | DepthwiseConvolution):
            np.testing.assert_array_equal(node.weight, other.weight)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2"])
def test_batch_norm_statistics_fit_the_activations(name):
    model = build(name, **TINY)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    assert all(norm.num_batches_tracked == 2 for norm in norms)
    assert all(norm.running_var.min() >= 0 and norm.running_var.max() > 0 for norm in norms)
    assert len({round(float(norm.running_var.mean()), 6) for norm in norms}) > len(norms) / 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gigamacs"), [
    ("resnet18", 1.8), ("resnet50", 4.1), ("mobilenetv2", 0.30)])
def test_full_size_networks_equal_their_models(name, gigamacs):
    network = golden(name)
    found = evaluate(network.graph, network.images)
    for tensor, value in network.integers.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
    tensors = network.graph.tensors()
    macs = sum(graph_macs(node, tensors[node.inputs[0]].shape) for node in network.graph.nodes)
    assert 0.93 * gigamacs < macs / 1e9 < 1.02 * gigamacs  # taps on padding do not count
