"""Layers whose weights are int4 are packed so, cost half the traffic and stay exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pliant.compiler import compile_graph, optimize
from pliant.compiler.errors import CompileError
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Convolution, DepthwiseConvolution, Graph
from pliant.compiler.operation import operations
from pliant.compiler.reference import evaluate
from pliant.compiler.tiling import choose_tiling
from pliant.spec.config import PRESETS, AcceleratorConfig, preset
from pliant.spec.isa import Load, Matrix, Target
from pliant.spec.program import Program
from pliant_models.random_layers import random_inputs
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")


def narrowed(graph: Graph, chosen: Callable[[int], bool] = lambda index: True) -> Graph:
    """Return the graph with weights of -7 to 7 in the chosen convolutions, counted from 0."""
    rng = np.random.default_rng(0)
    nodes = []
    for node in graph.nodes:
        if isinstance(node, Convolution | DepthwiseConvolution):
            place = sum(isinstance(n, Convolution | DepthwiseConvolution) for n in nodes)
            if chosen(place):
                weight = rng.integers(-7, 8, node.weight.shape, np.int8)
                weight.flat[:2] = -7, 7
                node = dataclasses.replace(node, weight=weight)
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes))


def matrices(program: Program, layer: int) -> list[Matrix]:
    decoded = program.decoded()
    found = [decoded[index] for index in program.layers[layer].indices()]
    return [instruction for instruction in found if isinstance(instruction, Matrix)]


def weight_bytes(program: Program, config: AcceleratorConfig) -> int:
    """Return the bytes that are loaded as weights."""
    return sum(i.run_beats * config.axi_data_bytes for i in program.decoded()
               if isinstance(i, Load) and i.target == Target.WEIGHT)


def assert_exact(graph: Graph, config: AcceleratorConfig) -> Program:
    program = compile_graph(graph, config, keep_tensors=True)
    inputs = random_inputs(graph, 0, images=2)
    expected = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
    result = InstructionSimulator(config).run(program, [inputs[t.name] for t in graph.inputs])
    for name, values in result.tensors.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    return program


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("parity", [0, 1])
def test_wide_and_narrow_layers_take_turns(
    network: Callable[..., Graph], name: str, parity: int
) -> None:
    config = preset(name)
    graph = narrowed(network(3, config.multiplier_bits), lambda index: index % 2 == parity)
    program = assert_exact(graph, config)
    narrow = [{bool(m.narrow_weights) for m in matrices(program, layer)}
              for layer in range(len(program.layers))]
    listed = ["convolution int4" in layer.kind for layer in program.layers]
    assert narrow.count({True}) >= 2
    assert narrow.count({False}) >= 2
    assert [found == {True} for found in narrow] == listed


@pytest.mark.parametrize("channels", [12, 40])
def test_depthwise_taps_stay_bytes(inverted: Callable[..., Graph], channels: int) -> None:
    graph = narrowed(inverted(5, TINY.multiplier_bits, channels=channels))
    program = assert_exact(graph, TINY)
    assert any("depthwise" in layer.kind for layer in program.layers)
    for layer in program.layers:
        assert ("int4" in layer.kind) == layer.kind.startswith("convolution")


@pytest.mark.parametrize("depth", [64, 256, 1024])
def test_narrow_weights_are_half_the_words_whatever_fits(
    network: Callable[..., Graph], depth: int
) -> None:
    config = dataclasses.replace(TINY, weight_depth=depth)
    wide = network(3, config.multiplier_bits)
    narrow = narrowed(wide)
    programs = [assert_exact(graph, config) for graph in (wide, narrow)]
    assert 2 * weight_bytes(programs[1], config) <= weight_bytes(programs[0], config)
    lowered = [optimize(graph, config) for graph in (wide, narrow)]
    for before, after in zip(*map(operations, lowered), strict=True):
        source = lowered[0].tensors()[before.inputs[0]].shape
        pair = [Geometry(operation, config, source) for operation in (before, after)]
        if before.weight is None:
            assert pair[0].signature() == pair[1].signature()
            continue
        assert pair[0].signature() != pair[1].signature()
        assert pair[1].group_words * 2 == pair[0].group_words
        traffic = [choose_tiling(geometry).traffic for geometry in pair]
        assert traffic[1] < traffic[0]


def test_a_kernel_may_fit_the_buffer_as_int4_alone(builder: type) -> None:
    net = builder(3, (4, 20, 20), TINY.multiplier_bits)
    wide = net.graph(net.convolution(net.input, 4, kernel=20, padding=0))
    with pytest.raises(CompileError, match="int4"):
        compile_graph(wide, TINY)
    assert_exact(narrowed(wide), TINY)


@pytest.mark.parametrize("largest", [7, 8])
def test_one_weight_beyond_makes_a_layer_wide(builder: type, largest: int) -> None:
    net = builder(3, (5, 6, 6), TINY.multiplier_bits)
    graph = narrowed(net.graph(net.convolution(net.input, 9)))
    [node] = graph.nodes
    assert isinstance(node, Convolution)
    node.weight[-1, -1, -1, -1] = largest
    program = assert_exact(graph, TINY)
    assert {m.narrow_weights for m in matrices(program, 0)} == {int(largest == 7)}
