"""Lane groups that tiles of output channels multiply: grouped convolutions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.compile import optimize
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Convolution, Graph, Padding, Requantization, Tensor
from pliant.compiler.operation import operations
from pliant.compiler.pieces import LaneGroups, Piece, dense_weights
from pliant.compiler.reference import evaluate
from pliant.spec.config import PRESETS, AcceleratorConfig
from pliant.spec.isa import Load, Matrix, Target
from pliant_models.random_layers import random_inputs
from pliant_sim.simulator import InstructionSimulator

TINY = PRESETS["tiny"]
SMALL = dataclasses.replace(TINY, name="small", feature_depth=64, weight_depth=128,
                            accumulator_depth=32, parameter_depth=16)
ROWS, COLS = TINY.rows, TINY.cols


def grouped(
    groups: int, inner: int, outer: int, *, kernel: int = 3, size: tuple[int, int] = (6, 7),
    stride: int = 1, seed: int = 0,
) -> Graph:
    """A grouped convolution between two dense ones, so that tensors may stay on chip."""
    random = np.random.default_rng(seed)
    pad = kernel // 2
    source = Tensor(name="x", shape=(groups * inner, *size), zero_point=-5)
    nodes: list[Convolution] = []
    for name, out, per_output, count in (
            ("first", groups * inner, groups * inner, 1),
            ("grouped", groups * outer, inner, groups), ("last", 5, groups * outer, 1)):
        side, step = (kernel, stride) if name == "grouped" else (1, 1)
        margin = pad if name == "grouped" else 0
        weight = random.integers(-127, 128, (out, per_output, side, side), np.int8)
        height, width = ((n + 2 * margin - side) // step + 1 for n in source.shape[1:])
        output = Tensor(name=f"{name}.out", shape=(out, height, width), zero_point=3)
        bits = TINY.multiplier_bits
        shift = bits + int(np.log2(74 * 74 * np.sqrt(weight[0].size) / 50))
        nodes.append(Convolution(
            name=name, inputs=(source.name,), output=output, weight=weight, groups=count,
            bias=random.integers(-5000, 5000, out).astype(np.int32),
            requantization=Requantization(
                multiplier=random.integers(1 << bits - 1, 1 << bits, out),
                shift=np.full(out, shift), zero_point=3),
            stride=(step, step),
            padding=Padding(top=margin, left=margin, bottom=margin, right=margin)))
        source = output
    first = Tensor(name="x", shape=(groups * inner, *size), zero_point=-5)
    return Graph(name="grouped", inputs=(first,), nodes=tuple(nodes), outputs=("last.out",))


def middle(graph: Graph, config: AcceleratorConfig) -> LaneGroups:
    """Return the lane groups of the grouped convolution."""
    lowered = optimize(graph, config)
    [operation] = [op for op in operations(lowered) if op.name == "grouped"]
    return Geometry.of(operation, config, lowered.tensors()).lane_groups


def test_dense_weights_hold_those_of_a_group_and_zeros() -> None:
    weight = np.random.default_rng(0).integers(1, 100, (6, 2, 3, 1), np.int8)
    dense = dense_weights(weight, 3)
    assert dense.shape == (6, 6, 3, 1)
    for out in range(6):
        own = slice(2 * (out // 2), 2 * (out // 2) + 2)
        assert np.array_equal(dense[out, own], weight[out])
        assert not np.delete(dense[out], np.r_[own], axis=0).any()


@pytest.mark.parametrize(("groups", "inner", "outer", "each"), [
    (1, 13, 11, 4),
    (16, 1, 1, COLS // ROWS),  # depthwise: a tile needs what it computes
    (4, ROWS, COLS, 1),
    (2, 2 * ROWS, COLS, 2),
    (3, 5, COLS, 2),  # groups that begin inside a lane group
])
def test_a_tile_multiplies_only_the_lane_groups_of_its_groups(
    groups: int, inner: int, outer: int, each: int
) -> None:
    lists = middle(grouped(groups, inner, outer), TINY)
    assert lists.tiles.shape[1] == each
    assert lists.whole == (groups == 1)
    assert lists.packed(narrow=False).shape[:2] == lists.tiles.shape


def test_lists_cover_all_weights_and_are_ascending() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        channels = [int(n) for n in random.integers(1, 14, int(random.integers(1, 4)))]
        out = int(random.integers(1, 30))
        weight = random.integers(-2, 3, (out, sum(channels), 1, 1), np.int8)
        weight *= random.random((out, sum(channels), 1, 1)) < 0.1
        lists = LaneGroups(TINY, weight, channels)
        assert (np.diff(lists.tiles, axis=1) > 0).all()
        packed = lists.packed(narrow=False)
        assert np.abs(packed).astype(int).sum() == np.abs(weight).astype(int).sum()


def test_pieces_join_neighbours_of_one_tensor_and_runs_what_is_loaded() -> None:
    weight = np.zeros((COLS, 7 * ROWS, 1, 1), np.int8)
    for group in (0, 1, 3, 4, 6):  # of tensors with 4, 2 and 1 lane groups
        weight[:, group * ROWS] = 1
    lists = LaneGroups(TINY, weight, (4 * ROWS, 2 * ROWS, ROWS))
    assert lists.pieces(0, (0, 5)) == [
        Piece(0, (0, 2)), Piece(0, (3, 4)), Piece(1, (0, 1)), Piece(2, (0, 1))]
    assert lists.split(0, (0, 5), frozenset()) == [(0, 5)]
    assert lists.split(0, (0, 5), frozenset({0})) == [(0, 2), (2, 3), (3, 5)]
    assert lists.split(0, (1, 5), frozenset({1})) == [(1, 3), (3, 4), (4, 5)]
    assert lists.loaded(0, (0, 5), frozenset({0})) == 2
    assert lists.most_loaded(3, frozenset({0})) == 2


def assert_exact(graph: Graph, config: AcceleratorConfig) -> list[Matrix]:
    image = random_inputs(graph, 0)["x"]
    expected = evaluate(graph, image)
    found: list[NDArray[np.int8]] = []
    for keep in (False, True):
        program = compile_graph(graph, config, keep_tensors=keep)
        result = InstructionSimulator(config).run(program, [image])
        found.append(result.outputs[0])
        for name, value in result.tensors.items():
            assert np.array_equal(value, expected[name]), name
    assert all(np.array_equal(one, expected[graph.outputs[0]]) for one in found)
    return [step for step in program.decoded() if isinstance(step, Matrix)]


@pytest.mark.parametrize("config", [TINY, SMALL], ids=lambda c: c.name)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("groups", "inner", "outer"), [
    (16, 1, 1), (3, 5, 8), (2, 12, 9), (4, 4, 8), (5, 2, 3)])
def test_grouped_convolutions_are_exact(
    config: AcceleratorConfig, groups: int, inner: int, outer: int, stride: int
) -> None:
    assert_exact(grouped(groups, inner, outer, stride=stride), config)


def test_a_grouped_convolution_takes_the_passes_of_its_groups_alone() -> None:
    passes = {}
    for groups, inner in ((1, 32), (4, 8)):
        matrices = assert_exact(grouped(groups, inner, 32 // groups), TINY)
        passes[groups] = sum(m.groups for m in matrices if m.kernel_height == 3)
    assert passes[1] == 4 * passes[4]


def test_lane_groups_of_a_group_alone_are_loaded() -> None:
    graph = grouped(4, 8, 8, size=(8, 8))
    graph = graph.replace(inputs=(graph.nodes[0].output,), nodes=graph.nodes[1:2],
                          outputs=("grouped.out",))
    program = compile_graph(graph, TINY)
    image = random_inputs(graph, 0)[graph.inputs[0].name]
    [output] = InstructionSimulator(TINY).run(program, [image]).outputs
    assert np.array_equal(output, evaluate(graph, image)["grouped.out"])
    loaded = sum(load.groups * load.rows * load.row_beats for load in program.decoded()
                 if isinstance(load, Load) and load.target == Target.FEATURE)
    assert loaded == 8 * 8 * 8 // TINY.words_per_beat  # every word once
