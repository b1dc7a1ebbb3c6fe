"""A network with 4-bit weights: Brevitas == integer graph == instruction simulator == RTL."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant.spec.isa import Matrix
from pliant_hw.dsp import FAMILIES
from pliant_hw.packed_array import packed
from pliant_hw.verilog import generate
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize
from pliant_sim.rtl import RtlMachine
from pliant_sim.simulator import InstructionSimulator

IMAGE = (3, 12, 10)
NARROW = {"deep": False, "stem": False, "first": True, "second": True, "point": True, "fc": True}
"""Layers with weights, and whether those are int4 for the matrix unit."""


class Network(nn.Module):
    """A stem of 8 bits; of 4 a strided block with a shortcut, a pointwise and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.first = nn.Conv2d(10, 18, 3, stride=2, padding=1)
        self.second = nn.Conv2d(18, 18, 3, padding=2, dilation=2)
        self.deep = nn.Conv2d(18, 18, 3, padding=1, groups=18)
        self.point = nn.Conv2d(18, 9, 1)
        self.fc = nn.Linear(9 * 6 * 5, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(functional.relu(self.stem(x))))
        x = functional.relu(x + self.second(x))
        logits: Tensor = self.fc(torch.flatten(self.point(functional.relu(self.deep(x))), 1))
        return logits


@cache
def network() -> tuple[Graph, dict[str, np.ndarray]]:
    """Return the graph of a W4A8 network, its first layer W8, and the model's integers."""
    torch.manual_seed(1)
    model = quantize(Network(), torch.zeros(1, *IMAGE), weight_bits=4, layer_bits={"stem": 8})
    calibrate(model, [torch.randn(16, *IMAGE) for _ in range(4)])
    return export(model, name="w4a8"), model_integers(model, torch.randn(3, *IMAGE) * 1.5)


@pytest.mark.parametrize(("config_name", "family"), [
    ("tiny", None),
    pytest.param("tiny", "DSP48E1", marks=pytest.mark.slow),
])
def test_a_w4a8_network_gives_the_same_integers_at_every_level(
    config_name: str, family: str | None
) -> None:
    config = preset(config_name)
    graph, expected = network()
    images = expected[graph.inputs[0].name]
    found = evaluate(graph, images, multiplier_bits=config.multiplier_bits)
    program = compile_graph(graph, config, keep_tensors=True)
    simulated = InstructionSimulator(config).run(program, [images])
    assert list(found) == list(expected)
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=f"graph: {tensor}")
        assert len(np.unique(value)) > 12, f"{tensor} hardly uses int8"
    assert len(simulated.tensors) >= len(NARROW)
    machine = RtlMachine(
        config, source=generate(config, packed(FAMILIES[family])) if family else None)
    for index, image in enumerate(images):
        executed = machine.run(program, [image])
        for tensor, values in simulated.tensors.items():
            np.testing.assert_array_equal(values, expected[tensor],
                                          err_msg=f"simulator: {tensor}")
            np.testing.assert_array_equal(executed.tensor(tensor), expected[tensor][index],
                                          err_msg=f"RTL: {tensor}")


@pytest.mark.parametrize("config_name", ["tiny", "ultra96"])
def test_the_program_holds_4_bit_weights_where_the_network_has_them(config_name: str) -> None:
    program = compile_graph(network()[0], preset(config_name))
    decoded = program.decoded()
    seen = {}
    for layer in program.layers:
        own = [decoded[index] for index in layer.indices()]
        widths = {bool(i.narrow_weights) for i in own if isinstance(i, Matrix)} or {False}
        assert len(widths) == 1
        seen[layer.name.split(" + ")[0]] = widths.pop()
    assert seen == NARROW
