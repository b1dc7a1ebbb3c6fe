from collections import Counter

import numpy as np

from pliant.compiler.graph import (
    Add,
    AveragePool,
    Convolution,
    DepthwiseConvolution,
    Graph,
    MaxPool,
    SelectChannels,
)
from pliant.compiler.reference import evaluate
from pliant_models.random_layers import random_inputs
from pliant_models.random_networks import BLOCKS, SELECTING, random_network


def network(seed: int) -> Graph:
    return random_network(seed, multiplier_bits=16, blocks=2 + seed % 5)


def test_equal_seeds_give_equal_networks() -> None:
    first, second = (network(3) for _ in range(2))
    values = [evaluate(graph, random_inputs(graph, 5)) for graph in (first, second)]
    assert list(values[0]) == list(values[1])
    for name in values[0]:
        np.testing.assert_array_equal(values[0][name], values[1][name])


def test_networks_cover_what_a_compiler_must_place() -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        graph = network(seed)
        seen.update(graph.metadata["blocks"].split())
        readers = Counter(name for node in graph.nodes for name in node.inputs)
        seen["several outputs"] += len(graph.outputs) > 1
        seen["output that is read"] += any(readers[name] for name in graph.outputs)
        seen["several readers"] += max(readers.values()) > 1
        seen["tall"] += graph.inputs[0].shape[1] > 30
        seen["odd size"] += graph.inputs[0].shape[2] % 2
        made = {node.output.name: index for index, node in enumerate(graph.nodes)}
        for index, node in enumerate(graph.nodes):
            before = graph.nodes[index - 1] if index else None
            seen[type(node).__name__] += 1
            seen["read much later"] += any(index - made.get(name, index) > 3
                                           for name in node.inputs)
            if isinstance(node, Convolution) and isinstance(
                    before, DepthwiseConvolution | MaxPool | AveragePool):
                pointwise = node.weight.shape[2:] == (1, 1) and node.stride == (1, 1)
                seen["pair"] += pointwise and node.inputs[0] == before.output.name
            if isinstance(node, DepthwiseConvolution):
                seen[f"depthwise {node.weight.shape[1]} stride {node.stride[0]}"] += 1
            if isinstance(node, Add):
                seen["tensor added to itself"] += node.inputs[0] == node.inputs[1]
    expected = [*BLOCKS, "several outputs", "output that is read", "several readers", "tall",
                "odd size", "read much later", "pair", "Lookup", "Clip", "Add", "MaxPool",
                "AveragePool", "tensor added to itself",
                *(f"depthwise {k} stride {s}" for k in (3, 5) for s in (1, 2))]
    assert [what for what in expected if seen[what] < 5] == []


def test_selecting_networks_cover_what_a_selection_meets() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        graph = random_network(seed, multiplier_bits=16, blocks=2 + seed % 5, kinds=SELECTING)
        seen.update(graph.metadata["blocks"].split())
        selections = {node.output.name for node in graph.nodes if isinstance(node, SelectChannels)}
        seen["output"] += bool(selections & set(graph.outputs))
        for node in graph.nodes:
            if isinstance(node, Convolution):
                seen["groups"] += node.groups > 1
            if isinstance(node, SelectChannels):
                seen["a channel twice"] += len(np.unique(node.channels, axis=0)) < len(
                    node.channels)
            if selections & set(node.inputs):
                seen[f"{type(node).__name__} of a selection"] += 1
    expected = [*SELECTING, "output", "groups", "a channel twice", *(
        f"{kind} of a selection" for kind in (
            "Convolution", "DepthwiseConvolution", "MaxPool", "AveragePool", "SelectChannels",
            "Upsample", "Add", "Lookup"))]
    assert [what for what in expected if seen[what] < 5] == []


def test_results_vary_up_to_the_last_layer() -> None:
    """Or a wrong value in an early layer would not show at the outputs."""
    flat = total = 0
    for seed in range(60):
        graph = network(seed)
        values = evaluate(graph, random_inputs(graph, seed), multiplier_bits=16)
        for name in graph.outputs:
            if values[name].size > 16:
                total += 1
                flat += len(np.unique(values[name])) < 8
    assert total > 50
    assert flat < total / 10
