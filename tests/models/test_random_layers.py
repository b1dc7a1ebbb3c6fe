import dataclasses
from collections import Counter

import numpy as np
import pytest

from pliant.compiler.graph import AveragePool, Convolution
from pliant.compiler.reference import evaluate
from pliant.spec.numerics import Rounding
from pliant_models.random_layers import (
    DEFORMABLE_KINDS,
    DISPLACED_KINDS,
    EXTRA_KINDS,
    KINDS,
    random_inputs,
    random_layer,
)
from pliant_models.torch_reference import torch_reference

SEEDS = range(100)


def multiplier_bits(seed: int) -> int:
    return (8, 16, 31)[seed % 3]


def layer(seed: int):
    return random_layer(seed, multiplier_bits=multiplier_bits(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_numpy_and_pytorch_give_the_same_integers(seed):
    graph = layer(seed)
    inputs = random_inputs(graph, seed, images=2)
    expected = torch_reference(graph, inputs, multiplier_bits=multiplier_bits(seed))
    found = evaluate(graph, inputs, multiplier_bits=multiplier_bits(seed))
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=f"{graph.name}: {name}")


@pytest.mark.parametrize("seed", range(40))
def test_numpy_and_pytorch_agree_on_depthwise_convolution(seed):
    bits = multiplier_bits(seed)
    graph = random_layer(seed, multiplier_bits=bits, kind="depthwise")
    inputs = random_inputs(graph, seed, images=2)
    expected = torch_reference(graph, inputs, multiplier_bits=bits)
    found = evaluate(graph, inputs, multiplier_bits=bits)
    np.testing.assert_array_equal(found["depthwise"], expected["depthwise"])


@pytest.mark.parametrize("kind", [*KINDS, *EXTRA_KINDS, *DEFORMABLE_KINDS, *DISPLACED_KINDS])
def test_every_kind_can_be_asked_for(kind):
    graph = random_layer(7, multiplier_bits=16, kind=kind)
    inputs = random_inputs(graph, 7)
    expected = torch_reference(graph, inputs, multiplier_bits=16)
    found = evaluate(graph, inputs, multiplier_bits=16)
    assert graph.metadata["kind"] == kind
    np.testing.assert_array_equal(found[graph.outputs[0]], expected[graph.outputs[0]])


def test_equal_seeds_give_equal_layers():
    first, second = (random_layer(3, multiplier_bits=16) for _ in range(2))
    values = [evaluate(graph, random_inputs(graph, 5)) for graph in (first, second)]
    for name in values[0]:
        np.testing.assert_array_equal(values[0][name], values[1][name])


def test_layers_cover_what_the_hardware_must_do():
    seen = Counter()
    for seed in range(300):
        graph = layer(seed)
        seen[graph.metadata["kind"]] += 1
        for node in graph.nodes:
            if not isinstance(node, Convolution | AveragePool):
                continue
            how, pad = node.requantization, node.padding
            assert how.multiplier.max() < 1 << multiplier_bits(seed)
            assert 0 <= how.shift.min() <= how.shift.max() <= 62
            seen[how.rounding] += 1
            seen[f"stride {node.stride[0]}"] += 1
            seen["asymmetric padding"] += (pad.top, pad.left) != (pad.bottom, pad.right)
            if isinstance(node, Convolution):
                largest = np.abs(node.weight.astype(int)).max()
                assert largest <= 127
                seen["weights up to 7"] += largest == 7
                seen["weights beyond"] += largest > 7
                seen[f"kernel {node.weight.shape[2]}"] += 1
                seen[f"dilation {node.dilation[0]}"] += 1
                seen["many channels"] += max(node.weight.shape[:2]) > 64
            if how.rounding is Rounding.GEMMLOWP:
                assert how.shift.min() >= multiplier_bits(seed)
        seen["input zero point"] += graph.inputs[0].zero_point != 0
        seen["large input"] += max(graph.inputs[0].shape[1:]) > 25
    expected = [*KINDS, *Rounding, *(f"kernel {size}" for size in range(1, 8)),
                *(f"stride {step}" for step in (1, 2, 3)), "dilation 1", "dilation 2",
                "weights up to 7", "weights beyond", "asymmetric padding", "many channels",
                "input zero point", "large input"]
    assert [what for what in expected if seen[what] < 3] == []


def test_results_saturate_and_tie_often():
    changed = saturated = checked = 0
    for seed in SEEDS:
        graph = random_layer(seed, multiplier_bits=16, kind="convolution")
        node = graph.nodes[0]
        if node.requantization.rounding is Rounding.GEMMLOWP:
            continue
        checked += 1
        inputs = random_inputs(graph, seed)
        results = []
        for rounding in (Rounding.HALF_EVEN, Rounding.HALF_UP):
            other = dataclasses.replace(node, requantization=dataclasses.replace(
                node.requantization, rounding=rounding))
            results.append(evaluate(graph.replace(nodes=(other,)), inputs)["conv"])
        changed += (results[0] != results[1]).any()
        how = node.requantization
        saturated += (results[0] == how.clip_max).any() and (results[0] == how.clip_min).any()
    assert changed > checked / 2
    assert saturated > checked / 3
