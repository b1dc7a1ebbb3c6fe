"""Layers keep their own weights, whatever they are called and wherever their modules stand."""

import numpy as np
import pytest
import torch
from torch import nn

from pliant.compiler.reference import evaluate
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize


class Chain(nn.Module):
    """Pointwise convolutions, one for each path, each of which multiplies by another number."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__()
        self.paths = paths
        for number, path in enumerate(paths):
            parent: nn.Module = self
            *folders, name = path.split(".")
            for folder in folders:
                if not hasattr(parent, folder):
                    parent.add_module(folder, nn.Module())
                parent = getattr(parent, folder)
            conv = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(conv.weight, number + 2)
            parent.add_module(name, conv)

    def forward(self, x):
        for path in self.paths:
            x = torch.relu(self.get_submodule(path)(x))
        return x


@pytest.mark.parametrize("paths", [
    ["block.conv", "block_conv"], ["block_conv", "block.conv"], ["conv", "conv_quant", "conv_act"],
    ["conv_quant", "conv"], ["add.module", "get.buffer"], ["conv", "conv_1", "conv"],
    ["0", "quant"],
], ids="-".join)
def test_names_that_meet_when_dots_become_underscores_stay_apart(paths):
    model = quantize(Chain(paths), torch.zeros(1, 1, 2, 2), input_scale=2.0**-4)
    calibrate(model, [torch.rand(4, 1, 2, 2)])
    graph = export(model, name="chain")
    assert len(graph.nodes) == len(paths)
    factors = {path: number + 2 for number, path in enumerate(paths)}  # of two, the last counts
    for node, path in zip(graph.nodes, paths, strict=True):
        source = graph.tensors()[node.inputs[0]]
        how = node.requantization
        factor = node.weight.item() * how.multiplier.item() * 2.0**-how.shift.item()
        assert factor * node.output.scale / source.scale == pytest.approx(factors[path], rel=0.01)
    images = torch.rand(3, 1, 2, 2)
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
