"""Upsampling behind every kind of layer, cut into tiles, in DDR and on chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import Post, Store
from pliant_models.random_layers import random_inputs
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
NARROW = dataclasses.replace(TINY, name="narrow", feature_depth=128, accumulator_depth=32,
                             parameter_depth=16)
PYNQ = preset("pynq_z2")
Builder = Callable[..., Any]


def posts(graph: Graph, config: AcceleratorConfig, **how: bool) -> list[Post]:
    """Check the results; return the Post instructions that upsample."""
    inputs = random_inputs(graph, 0)
    expected = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
    program = compile_graph(graph, config, **how)
    result = InstructionSimulator(config).run(program, [inputs[t.name] for t in graph.inputs])
    for name, value in [*zip(graph.outputs, result.outputs, strict=True), *result.tensors.items()]:
        assert np.array_equal(value, expected[name]), name
    return [step for step in program.decoded() if isinstance(step, Post) and step.upsample]


@pytest.mark.parametrize("config", [TINY, NARROW, PYNQ], ids=lambda c: c.name)
@pytest.mark.parametrize("size", [(7, 9), (16, 5), (1, 1)])
@pytest.mark.parametrize("keep_tensors", [False, True])
def test_residuals_are_added_before_upsampling(
    builder: Builder, config: AcceleratorConfig, size: tuple[int, int], keep_tensors: bool
) -> None:
    net = builder(0, (6, *size), config.multiplier_bits)
    first = net.convolution(net.input, 9)
    added = net.relu(net.add(net.convolution(first, 9), first))
    graph = net.graph(net.convolution(net.upsample(added), 5))
    found = posts(graph, config, keep_tensors=keep_tensors)
    assert found
    assert all(step.add_enable for step in found)
    assert all(not step.add_enable for step in posts(graph, config, fuse=False))


@pytest.mark.parametrize("config", [TINY, NARROW, PYNQ], ids=lambda c: c.name)
@pytest.mark.parametrize("layer", ["depthwise", "max_pool", "lookup", "upsample"])
def test_any_layer_may_be_upsampled_and_be_an_output(
    builder: Builder, config: AcceleratorConfig, layer: str
) -> None:
    net = builder(1, (7, 11, 10), config.multiplier_bits)
    large = net.upsample(getattr(net, layer)(net.input))
    graph = net.graph(large, net.depthwise(large))
    assert posts(graph, config)
    assert posts(graph, config, fuse=False, keep_tensors=True)


def test_upsampling_costs_no_word(builder: Builder) -> None:
    net = builder(2, (8, 12, 12), TINY.multiplier_bits)
    plain = net.convolution(net.input, 8)
    words = {}
    for output in (plain, net.upsample(plain)):
        program = compile_graph(net.graph(output).replace(
            nodes=tuple(net.nodes[:1 + (output is not plain)])), TINY)
        steps = [step for step in program.decoded() if isinstance(step, Post)]
        stored = sum(step.rows * step.row_beats * step.groups for step in program.decoded()
                     if isinstance(step, Store))
        words[output.name] = (sum(s.groups * s.out_height * s.out_width for s in steps), stored)
    (once, stored), (upsampled, more) = words.values()
    assert upsampled == once
    assert more == 4 * stored
