"""Which layers run at the same time, and in which order they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from pliant.compiler import compile_graph
from pliant.compiler.compile import optimize
from pliant.compiler.graph import Graph
from pliant.compiler.memory_plan import Constants
from pliant.compiler.operation import consumers, operations
from pliant.compiler.plan import Planner
from pliant.compiler.reference import evaluate
from pliant.compiler.stages import form_stages
from pliant.spec.config import preset
from pliant_models.random_layers import random_inputs
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
Builder = Callable[..., Any]


def names(graph: Graph) -> list[list[str]]:
    """Return the layers of each stage of the optimized graph."""
    lowered = optimize(graph, TINY)
    layers = operations(lowered)
    return [[layers[index].name for index in stage]
            for stage in form_stages(layers, consumers(lowered))]


def branches(builder: Builder) -> Graph:
    """Return two heads of convolution, depthwise and pointwise on one tensor."""
    net = builder(0, (8, 20, 20), 16)
    shared = net.convolution(net.input, 16, 3)
    outputs = [net.convolution(net.depthwise(net.convolution(shared, 16, 1)), 8, 1)
               for _ in range(2)]
    return net.graph(*outputs)


def test_an_independent_convolution_comes_behind_a_pair(builder: Builder) -> None:
    assert names(branches(builder)) == [
        ["conv0"], ["conv1"], ["depthwise2", "conv3", "conv4"], ["depthwise5", "conv6"]]


def test_a_convolution_that_reads_the_window_does_not(builder: Builder) -> None:
    net = builder(0, (8, 20, 20), 16)
    pooled = net.max_pool(net.convolution(net.input, 16, 3), 3, 1)
    graph = net.graph(net.convolution(pooled, 8, 3))
    assert names(graph) == [["conv0"], ["pool1"], ["conv2"]]


def test_a_convolution_behind_its_own_window_stays_there(builder: Builder) -> None:
    net = builder(0, (8, 20, 20), 16)
    first = net.max_pool(net.input, 3, 1)
    second = net.convolution(net.depthwise(net.input), 8, 1)
    assert names(net.graph(first, second)) == [["pool0"], ["depthwise1", "conv2"]]


def test_layers_side_by_side_give_the_same_integers(builder: Builder) -> None:
    roomy = dataclasses.replace(TINY, name="roomy", feature_depth=4096, accumulator_depth=512,
                                weight_depth=4096)
    graph = branches(builder)
    lowered = optimize(graph, roomy)
    planner = Planner(lowered, roomy, keep_tensors=False)
    planner.run(Constants(roomy))
    assert max(len(stage) for stage in planner.stages) == 3
    inputs = random_inputs(graph, 1)
    expected = evaluate(graph, inputs, multiplier_bits=roomy.multiplier_bits)
    found = InstructionSimulator(roomy).run(compile_graph(graph, roomy), [inputs["x"]])
    for index, name in enumerate(graph.outputs):
        np.testing.assert_array_equal(found.outputs[index], expected[name])
