"""Work in front of upsampling: pointwise layers move there, depthwise ones work in phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pliant.compiler import compile_graph
from pliant.compiler.compile import optimize
from pliant.compiler.graph import Convolution, DepthwiseConvolution, Graph, Upsample
from pliant.compiler.operation import operations
from pliant.compiler.phases import phase_weights
from pliant.compiler.reference import evaluate
from pliant.compiler.upsample import delay_upsampling
from pliant.spec.config import AcceleratorConfig, preset
from pliant_models.random_layers import random_inputs
from pliant_sim.rtl import RtlMachine
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
SMALL = dataclasses.replace(TINY, name="small", feature_depth=128, accumulator_depth=32,
                            offset_depth=128)
PYNQ = preset("pynq_z2")
Builder = Callable[..., Any]


def head(builder: Builder, shape: tuple[int, int, int], *, small: bool = True) -> Graph:
    """Return conv -> upsample -> pointwise -> depthwise 3x3 -> pointwise, as CoDeNet's heads."""
    net = builder(0, shape, 16)
    large = net.upsample(net.convolution(net.input, 12, 1))
    outputs = []
    for _ in range(2):
        deep = net.depthwise(net.convolution(large, 10, 1), 3, 1)
        node = net.nodes[-1]
        assert isinstance(node, DepthwiseConvolution)
        assert node.weight.shape[1:] == (3, 3)
        if small:
            net.nodes[-1] = dataclasses.replace(
                node, weight=np.sign(node.weight) * (np.abs(node.weight) % 8))
        outputs.append(net.convolution(deep, 5, 1))
    return net.graph(*outputs)


def check(graph: Graph, config: AcceleratorConfig, machine: RtlMachine | None = None) -> None:
    inputs = random_inputs(graph, 1)
    expected = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
    given = [inputs[tensor.name] for tensor in graph.inputs]
    for fuse in (True, False):
        program = compile_graph(graph, config, fuse=fuse)
        result = InstructionSimulator(config).run(program, given)
        for name, value in zip(graph.outputs, result.outputs, strict=True):
            np.testing.assert_array_equal(value, expected[name])
        if machine is not None:
            run = machine.run(program, [value[0] for value in given])
            for name, value in zip(graph.outputs, run.outputs, strict=True):
                np.testing.assert_array_equal(value, expected[name][0])


def test_pointwise_layers_read_the_small_tensor(builder: Builder) -> None:
    graph = head(builder, (6, 5, 7))
    moved = delay_upsampling(graph)
    inputs = random_inputs(graph, 0)
    expected, found = evaluate(graph, inputs), evaluate(moved, inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], expected[name])
    before, after = ([node.output.shape[1] for node in each.nodes if isinstance(node, Upsample)]
                     for each in (graph, moved))
    assert before == [10]
    assert after == [10, 10]
    assert [node.output.shape[1:] for node in moved.nodes[:2]] == [(5, 7), (5, 7)]


@pytest.mark.parametrize("other", ["convolution", "output"])
def test_pointwise_layers_skip_the_copies_in_a_tensor_that_others_read(
    builder: Builder, other: str
) -> None:
    net = builder(0, (6, 5, 7), 16)
    large = net.upsample(net.convolution(net.input, 12, 1))
    result = net.convolution(large, 4, 1)
    graph = net.graph(result, large if other == "output" else net.convolution(large, 4, 3))
    moved = delay_upsampling(graph)
    [reader] = [node for node in moved.nodes if isinstance(node, Convolution)
                and large.name in node.inputs and node.weight.shape[2:] == (1, 1)]
    assert reader.stride == (2, 2)
    assert reader.output.shape == (4, 5, 7)
    assert large.name in moved.tensors()
    check(graph, TINY)


def test_an_upsampled_tensor_that_no_pointwise_layer_reads_stays(builder: Builder) -> None:
    net = builder(0, (6, 5, 7), 16)
    graph = net.graph(net.convolution(net.upsample(net.convolution(net.input, 12, 1)), 4, 3))
    assert delay_upsampling(graph).nodes == graph.nodes


def test_phases_add_up_the_taps_that_see_one_pixel() -> None:
    weight = np.arange(9, dtype=np.int8).reshape(1, 3, 3)
    expected = [[[0, 3], [9, 24]], [[1, 2], [20, 13]], [[3, 12], [6, 15]], [[8, 7], [13, 8]]]
    phases = phase_weights(weight)[0]
    assert phases.tolist() == expected


@pytest.mark.parametrize("config", [TINY, SMALL, PYNQ], ids=lambda config: config.name)
@pytest.mark.parametrize("shape", [(6, 5, 7), (9, 1, 1), (3, 8, 16), (5, 13, 3)])
def test_heads_give_the_same_integers(
    builder: Builder, config: AcceleratorConfig, shape: tuple[int, int, int]
) -> None:
    graph = head(builder, shape)
    phased = [layer for layer in operations(optimize(graph, config)) if layer.phased]
    assert len(phased) == 2
    check(graph, config)


def test_heads_give_the_same_integers_on_the_rtl(builder: Builder) -> None:
    machine = RtlMachine(TINY)
    for shape in ((6, 5, 7), (9, 1, 1), (3, 8, 16)):
        check(head(builder, shape), TINY, machine)


def test_taps_too_large_together_are_computed_one_by_one(builder: Builder) -> None:
    graph = head(builder, (6, 5, 7), small=False)
    assert not any(layer.phased for layer in operations(optimize(graph, TINY)))
    check(graph, TINY)


def test_phases_need_their_taps_at_once(builder: Builder) -> None:
    few = dataclasses.replace(TINY, tap_depth=16)  # 3 lane groups take 12 words; 5 would take 20
    graph = head(builder, (6, 5, 7))
    assert any(layer.phased for layer in operations(optimize(graph, few)))
    net = builder(0, (6, 4, 4), 16)
    deep = net.depthwise(net.convolution(net.upsample(net.input), 18, 1), 3, 1)
    node = net.nodes[-1]
    net.nodes[-1] = dataclasses.replace(node, weight=np.sign(node.weight))
    graph = net.graph(deep)
    assert not any(layer.phased for layer in operations(optimize(graph, few)))
    check(graph, few)


def test_kept_tensors_are_the_graphs_and_none_of_before_upsampling(builder: Builder) -> None:
    graph = head(builder, (6, 5, 7))
    program = compile_graph(graph, TINY, keep_tensors=True)
    tensors = graph.tensors()
    assert {info.name for info in program.kept} >= set(graph.outputs)
    assert all(info.shape == tensors[info.name].shape for info in program.kept)
    inputs = random_inputs(graph, 1)
    expected = evaluate(graph, inputs, multiplier_bits=TINY.multiplier_bits)
    result = InstructionSimulator(TINY).run(program, [inputs[t.name] for t in graph.inputs])
    for info in program.kept:
        np.testing.assert_array_equal(result.tensors[info.name], expected[info.name])
