"""Selections of channels vanish into the layers around them, and the integers stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.compiler.test_fuse import evaluate_operations

from pliant.compiler import compile_graph, optimize
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Graph, Tensor
from pliant.compiler.lower import lower
from pliant.compiler.memory_plan import Constants
from pliant.compiler.operation import Operation, Reduction, operations
from pliant.compiler.plan import Planner
from pliant.compiler.reference import evaluate, graph_macs
from pliant.compiler.select import select_channels
from pliant.spec.config import AcceleratorConfig, preset
from pliant_models.random_layers import random_inputs
from pliant_models.random_networks import SELECTING, random_network
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
SMALL = dataclasses.replace(TINY, name="small", feature_depth=128, weight_depth=256,
                            parameter_depth=16)
LANES = TINY.lanes

Builder = Callable[..., Any]


def selected(graph: Graph, *, keep: bool = False) -> tuple[Operation, ...]:
    return operations(select_channels(lower(graph, TINY), TINY, keep=keep))


def assert_exact(graph: Graph, config: AcceleratorConfig = TINY, **how: bool) -> list[str]:
    """Compare outputs and what is kept; return the names of what is kept."""
    inputs = random_inputs(graph, 0)
    expected = evaluate(graph, inputs)
    program = compile_graph(graph, config, **how)
    result = InstructionSimulator(config).run(program, [inputs[t.name] for t in graph.inputs])
    for name, value in zip(graph.outputs, result.outputs, strict=True):
        assert np.array_equal(value, expected[name]), name
    for name, value in result.tensors.items():
        assert np.array_equal(value, expected[name]), name
    return list(result.tensors)


def shuffled(net: Any, *parts: Tensor) -> Tensor:
    """Concatenate and shuffle tensors of equally many channels, as ShuffleNet does."""
    count = parts[0].shape[0]
    return net.select(parts, [(part, channel) for channel in range(count)
                              for part in range(len(parts))])


def halves(net: Any, source: Tensor) -> Sequence[Tensor]:
    half = source.shape[0] // 2
    return [net.select([source], [(0, start + channel) for channel in range(half)])
            for start in (0, half)]


def stage(net: Any, units: int, channels: int) -> Tensor:
    """A stage of ShuffleNetV2 (arXiv:1807.11164), its first unit with stride 2."""
    half = channels // 2
    value = net.convolution(net.input, channels)
    for unit in range(units):
        passed, worked = halves(net, value) if unit else (
            net.convolution(net.depthwise(value, 3, 2), half, 1), value)
        deep = net.depthwise(net.convolution(worked, half, 1), 3, 1 if unit else 2)
        branch = net.convolution(deep, half, 1)
        value = shuffled(net, passed, branch)
    return value


def test_a_stage_of_shufflenet_moves_no_channel(builder: Builder) -> None:
    net = builder(0, (3, 8, 8), TINY.multiplier_bits)
    graph = net.graph(net.convolution(stage(net, 4, 20), 7, 1))
    assert [op.name for op in selected(graph)] == [
        node.name for node in graph.nodes if not node.name.startswith("select")]
    for config in (TINY, SMALL):
        for fuse in (True, False):
            for keep_tensors in (True, False):
                assert_exact(graph, config, fuse=fuse, keep_tensors=keep_tensors)


def test_addressing_channels_is_faster_than_moving_them(builder: Builder) -> None:
    config = preset("ultra96")
    net = builder(0, (24, 16, 16), config.multiplier_bits)
    graph = net.graph(net.convolution(stage(net, 4, 116), 64, 1))
    addressed, moved = (
        sum(layer.estimated_cycles for layer in compile_graph(graph, config, fuse=fuse).layers[1:])
        for fuse in (True, False))  # the stem apart
    assert moved > 1.2 * addressed


def test_a_convolution_reads_the_tensors_that_have_its_channels(builder: Builder) -> None:
    net = builder(0, (3, 6, 6), TINY.multiplier_bits)
    first, second = (net.convolution(net.input, 3 * LANES) for _ in range(2))
    chosen = [(1, LANES), (0, 2), (1, LANES + 3), (0, 1)]
    graph = net.graph(net.convolution(net.select([first, second], chosen), 5))
    *_, last = selected(graph)
    assert set(last.windows) == {first.name, second.name}
    assert last.weight is not None
    read = int(last.weight.any(axis=(0, 2, 3)).sum())
    assert read == len(chosen)
    geometry = Geometry.of(last, TINY, lower(graph, TINY).tensors())
    assert geometry.input_groups == 2  # one lane group of each, of three
    assert_exact(graph)


def test_what_works_by_channels_moves_in_front_of_the_selection(builder: Builder) -> None:
    net = builder(0, (3, 8, 8), TINY.multiplier_bits)
    first, second = (net.convolution(net.input, 5 * LANES) for _ in range(2))
    # Lane groups 1, 2 and 4 of one, group 0 of the other.
    chosen = [(1, 2), (0, LANES), (0, 3 * LANES - 1), (0, 4 * LANES + 1), (1, 0)]
    value = net.select([first, second], chosen)
    branches = [net.convolution(layer(value), 6) for layer in (
        net.depthwise, net.max_pool, net.lookup, net.relu, net.upsample)]
    graph = net.graph(*branches)
    made = selected(graph)
    deep = [op for op in made if op.reduction is Reduction.DEPTHWISE]
    assert [(op.windows, op.first_group, op.output.shape[0]) for op in deep] == [
        ((first.name,), 1, 2 * LANES), ((first.name,), 4, LANES), ((second.name,), 0, LANES)]
    assert not any(op.name.startswith("select") for op in made)
    [node] = [node for node in graph.nodes if node.name.startswith("depthwise")]
    assert sum(op.macs for op in deep) == graph_macs(node, value.shape)
    for fuse in (True, False):
        assert_exact(graph, fuse=fuse, keep_tensors=True)


def test_selections_of_selections_are_one(builder: Builder) -> None:
    net = builder(0, (8, 5, 5), TINY.multiplier_bits)
    value = net.select([net.input], [(0, c) for c in (7, 0, 3, 5, 1)])
    value = net.select([value, value], [(1, 4), (0, 0), (0, 2)])
    graph = net.graph(net.convolution(value, 4, 1))
    [operation] = selected(graph)
    assert operation.windows == ("x",)
    assert operation.weight is not None
    assert list(np.flatnonzero(operation.weight.any(axis=(0, 2, 3)))) == [1, 3, 7]
    assert_exact(graph)


def names_of(graph: Graph, *, keep: bool = False) -> list[str]:
    """Return the selections that are computed, all by exact identities."""
    made = [op for op in selected(graph, keep=keep) if op.name.startswith("select")]
    for op in made:
        assert op.weight is not None
        assert op.reduction is Reduction.CONVOLUTION
        assert (op.weight.reshape(len(op.weight), -1).astype(int).sum(axis=1) == 1).all()
        assert op.macs == 0
    return [op.name for op in made]


def test_an_addition_gets_its_operands_put_together(builder: Builder) -> None:
    net = builder(0, (6, 5, 5), TINY.multiplier_bits)
    one = net.select([net.input], [(0, c) for c in (5, 4, 3, 2, 1, 0)])
    graph = net.graph(net.add(one, net.input))
    assert names_of(graph) == ["select0"]
    assert_exact(graph)
    # What lies between selection and addition is computed once, after the selection.
    net = builder(0, (6, 5, 5), TINY.multiplier_bits)
    one = net.relu(net.select([net.input], [(0, c) for c in (5, 4, 3, 2, 1, 0)]))
    graph = net.graph(net.add(one, net.input))
    assert names_of(graph) == ["select0"]
    assert len(selected(graph)) == 3
    assert_exact(graph)


def test_outputs_repeated_channels_and_unread_results_are_computed(builder: Builder) -> None:
    net = builder(0, (6, 5, 5), TINY.multiplier_bits)
    output = net.select([net.input], [(0, 4), (0, 1)])
    inner = net.select([output], [(0, 1)])
    twice = net.select([net.input], [(0, 2), (0, 3), (0, 2)])
    net.select([net.input], [(0, 0)])  # nobody reads it
    graph = net.graph(output, net.convolution(inner, 3), net.convolution(twice, 3),
                      net.depthwise(twice))
    assert names_of(graph) == ["select0", "select2", "select3"]
    assert_exact(graph)


def test_every_selection_is_computed_when_nothing_is_to_vanish(builder: Builder) -> None:
    net = builder(0, (3, 8, 8), TINY.multiplier_bits)
    graph = net.graph(net.convolution(stage(net, 2, 12), 7, 1))
    wanted = {node.output.name for node in graph.nodes}
    assert {op.output.name for op in selected(graph, keep=True)} == wanted
    assert set(assert_exact(graph, fuse=False, keep_tensors=True)) == wanted


def test_the_pass_shows_where_there_are_selections(builder: Builder) -> None:
    net = builder(0, (6, 5, 5), TINY.multiplier_bits)
    plain = net.graph(net.convolution(net.input, 4))
    seen: list[str] = []
    optimize(plain, TINY, stages=lambda name, _: seen.append(name))
    assert "select_channels" not in seen
    value = net.select([net.input], [(0, 1)])
    optimize(net.graph(net.convolution(value, 4)), TINY, stages=lambda name, _: seen.append(name))
    assert seen.count("select_channels") == 1


def test_selecting_networks_keep_their_integers() -> None:
    for seed in range(25):
        graph = random_network(seed, multiplier_bits=31, kinds=SELECTING, max_size=6,
                               max_channels=9)
        inputs = random_inputs(graph, seed)
        expected = evaluate(graph, inputs)
        for fuse in (True, False):
            values = evaluate_operations(optimize(graph, TINY, fuse=fuse),
                                         {name: value[0] for name, value in inputs.items()})
            for name in graph.outputs:
                assert np.array_equal(values[name], expected[name][0]), (seed, name)


@pytest.mark.parametrize("config", [TINY, SMALL], ids=lambda c: c.name)
def test_what_a_convolution_reads_may_be_on_chip_in_part(config: AcceleratorConfig) -> None:
    mixed = 0
    for seed in range(40):
        graph = random_network(seed, multiplier_bits=31, kinds=SELECTING, max_size=12)
        lowered = optimize(graph, config)
        planner = Planner(lowered, config, keep_tensors=False)
        planner.run(Constants(config))
        places = [{name in planner.residents for name in op.windows}
                  for op in operations(lowered)]
        if {True, False} in places:
            mixed += 1
            assert_exact(graph, config)
    assert mixed > 2
