"""Channels move to where those that are read together share lane groups; the integers stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.test_select import SMALL, TINY, assert_exact, halves, shuffled, stage

from pliant.compiler import compile_graph, optimize
from pliant.compiler.arrange import arrange_channels
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Graph
from pliant.compiler.lower import lower
from pliant.compiler.operation import Operation, Reduction, operations
from pliant.compiler.reference import evaluate
from pliant.compiler.select import select_channels
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.memory import ceil_div
from pliant_models.random_layers import random_inputs
from pliant_models.random_networks import SELECTING, random_network
from pliant_sim.rtl import RtlMachine

ULTRA96 = preset("ultra96")
LANES = TINY.lanes

Builder = Callable[..., Any]


def resolved(graph: Graph, config: AcceleratorConfig = TINY) -> Graph:
    return select_channels(arrange_channels(lower(graph, config), config), config)


def lane_groups(graph: Graph, config: AcceleratorConfig) -> list[tuple[int, int]]:
    """Return for each layer that selects channels the lane groups it reads, and the fewest."""
    found = []
    tensors = graph.tensors()
    for operation in operations(graph):
        if operation.reduction is Reduction.CONVOLUTION and operation.macs:
            assert operation.weight is not None
            used = int(operation.weight.any(axis=(0, 2, 3)).sum())
            geometry = Geometry.of(operation, config, tensors)
            found.append((geometry.input_groups, ceil_div(used, config.lanes)))
    return found


def gathers(graph: Graph) -> list[Operation]:
    return [layer for layer in operations(graph) if layer.name.endswith(".gather")]


def test_a_stage_of_shufflenet_reads_no_lane_group_in_vain(builder: Builder) -> None:
    net = builder(0, (24, 32, 32), ULTRA96.multiplier_bits)
    graph = net.graph(net.convolution(stage(net, 8, 232), 64, 1))
    plain = lane_groups(select_channels(lower(graph, ULTRA96), ULTRA96), ULTRA96)
    assert sum(read - least for read, least in plain) > 20
    arranged = resolved(graph, ULTRA96)
    assert all(read == least for read, least in lane_groups(arranged, ULTRA96)[:-1])
    spent = sum(Geometry.of(layer, ULTRA96, arranged.tensors()).input_groups
                for layer in gathers(arranged))
    assert 0 < spent < sum(read for read, _ in plain) / 10


@pytest.mark.parametrize("keep_tensors", [False, True])
@pytest.mark.parametrize("config", [TINY, SMALL], ids=lambda config: config.name)
def test_arranged_stages_keep_their_integers(
    builder: Builder, config: AcceleratorConfig, keep_tensors: bool
) -> None:
    net = builder(3, (3, 20, 20), config.multiplier_bits)
    graph = net.graph(net.convolution(stage(net, 6, 92), 7, 1))
    arranged = resolved(graph, config)
    moved = {tensor.name for tensor in arranged.tensors().values() if tensor.channels is not None}
    assert len(moved) >= 4
    assert gathers(arranged)
    kept = assert_exact(graph, config, keep_tensors=keep_tensors)
    assert not keep_tensors or moved <= set(kept), "they are compared in the network's order"


def test_arranged_stages_keep_their_integers_on_the_rtl(builder: Builder) -> None:
    net = builder(4, (3, 20, 20), TINY.multiplier_bits)
    graph = net.graph(net.convolution(stage(net, 6, 60), 7, 1))
    inputs = random_inputs(graph, 0)
    expected = evaluate(graph, inputs)
    program = compile_graph(graph, TINY, keep_tensors=True)
    assert any(info.channels for info in program.kept)
    assert any(layer.name.endswith(".gather") for layer in program.layers)
    run = RtlMachine(TINY).run(program, [inputs[t.name][0] for t in graph.inputs])
    for info in program.kept:
        np.testing.assert_array_equal(run.tensor(info.name), expected[info.name][0])


def test_tensors_that_others_read_whole_stay_as_they_are(builder: Builder) -> None:
    net = builder(0, (3, 8, 8), TINY.multiplier_bits)
    value = net.convolution(net.input, 4 * LANES)
    first, second = halves(net, value)
    graph = net.graph(net.convolution(first, 5), net.convolution(second, 5), net.relu(value))
    assert all(tensor.channels is None for tensor in resolved(graph).tensors().values())
    assert_exact(graph)


def test_outputs_stay_as_they_are(builder: Builder) -> None:
    net = builder(0, (3, 8, 8), TINY.multiplier_bits)
    value = net.convolution(net.input, 4 * LANES)
    mixed = shuffled(net, *halves(net, value))
    graph = net.graph(value, *(net.convolution(half, 5) for half in halves(net, mixed)))
    assert resolved(graph).tensors()[value.name].channels is None
    assert_exact(graph)


def test_channels_of_a_grouped_convolution_stay_in_their_groups(builder: Builder) -> None:
    net = builder(0, (8 * LANES, 8, 8), TINY.multiplier_bits)
    value = net.convolution(net.input, 8 * TINY.cols, 1)
    groups = 8
    net.nodes[-1] = dataclasses.replace(
        net.nodes[-1], groups=groups, weight=net.nodes[-1].weight[:, :LANES])
    mixed = net.select([value], [(0, group * TINY.cols + channel) for channel in range(TINY.cols)
                                 for group in range(groups)])
    graph = net.graph(*(net.convolution(half, 5) for half in halves(net, mixed)))
    arranged = resolved(graph)
    assert arranged.tensors()[value.name].channels is None
    assert Geometry.of(operations(arranged)[0], TINY, arranged.tensors()).input_groups == 1
    assert_exact(graph)


def test_gathering_waits_until_it_pays(builder: Builder) -> None:
    for size, expected in ((2, 0), (40, 1)):
        net = builder(0, (3, size, size), TINY.multiplier_bits)
        sources = [net.select([net.input], [(0, channel)]) for channel in range(3)]
        sources = [net.convolution(source, 2 * LANES) for source in sources]
        few = net.select(sources, [(source, 1) for source in range(3)])
        rest = net.select(sources, [(source, channel) for source in range(3)
                                    for channel in range(2 * LANES) if channel != 1])
        graph = net.graph(net.convolution(few, 4 * TINY.cols, 1), net.convolution(rest, 4, 1))
        assert len(gathers(resolved(graph))) == expected
        assert_exact(graph)


def test_random_selections_keep_their_integers() -> None:
    moved = gathered = 0
    for seed in range(20):
        graph = random_network(seed, multiplier_bits=31, kinds=SELECTING, max_size=24,
                               max_channels=24)
        assert_exact(graph, keep_tensors=bool(seed % 2))
        lowered = optimize(graph, TINY)
        moved += any(tensor.channels for tensor in lowered.tensors().values())
        gathered += len(gathers(lowered))
    assert moved > 2
    assert gathered > 2
