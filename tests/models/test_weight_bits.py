"""Weights of 4 bits, chosen for a network or layer by layer, keep the contract."""

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from pliant.compiler.graph import Convolution, DepthwiseConvolution
from pliant.compiler.reference import evaluate
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize


class Network(nn.Module):
    """A convolution, a depthwise and a pointwise one, a shortcut, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.point = nn.Conv2d(12, 12, 1)
        self.fc = nn.Linear(12 * 4 * 4, 7)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.point(functional.relu(self.deep(x))))
        return self.fc(torch.flatten(functional.max_pool2d(x, 2), 1))


IMAGE = (3, 8, 8)


def quantized(**options):
    torch.manual_seed(5)
    model = quantize(Network(), torch.zeros(1, *IMAGE), **options)
    calibrate(model, [torch.randn(16, *IMAGE) for _ in range(4)])
    return model


def largest_weights(graph) -> dict[str, int]:
    return {node.name: int(np.abs(node.weight).max()) for node in graph.nodes
            if isinstance(node, Convolution | DepthwiseConvolution)}


@pytest.mark.parametrize(("options", "narrow"), [
    ({}, set()),
    ({"weight_bits": 4}, {"stem", "point", "fc"}),
    ({"weight_bits": 4, "layer_bits": {"stem": 8}}, {"point", "fc"}),
    ({"layer_bits": {"fc": 4, "deep": 4}}, {"fc", "deep"}),
])
def test_layers_get_the_bits_they_are_given(options, narrow):
    graph = export(quantized(**options), name="network")
    expected = {name: 7 if name in narrow else 127 for name in ("stem", "deep", "point", "fc")}
    assert largest_weights(graph) == expected


def assert_exact(model) -> None:
    graph, images = export(model, name="network"), torch.randn(100, *IMAGE) * 1.5
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    assert list(found) == list(expected)
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
        assert len(np.unique(value)) > 12, f"{tensor} hardly uses int8"


@pytest.mark.parametrize("layer_bits", [{}, {"stem": 8}, {"deep": 4}])
def test_brevitas_in_float64_equals_the_integer_graph_with_4_bit_weights(layer_bits):
    assert_exact(quantized(weight_bits=4, layer_bits=layer_bits))


def test_models_with_4_bit_weights_train_and_stay_exact():
    model = quantized(weight_bits=4, layer_bits={"stem": 8})
    images, labels = torch.randn(64, *IMAGE), torch.arange(64) % 7
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    assert_exact(model.eval())
    assert largest_weights(export(model, name="trained"))["point"] == 7


@pytest.mark.parametrize(("options", "message"), [
    ({"weight_bits": 5}, "weights of 5 bits: they must have 4 or 8"),
    ({"layer_bits": {"fc": 2}}, "weights of 2 bits"),
    ({"layer_bits": {"relu": 4}}, "no layer with weights is called 'relu'; there are deep, fc"),
])
def test_other_bits_and_unknown_layers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        quantize(Network(), torch.zeros(1, *IMAGE), **options)
