"""Steps of two layers are interleaved legally, and so that one hides behind the other."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pliant.compiler import optimize
from pliant.compiler.buffers import Slot
from pliant.compiler.chip import ChipTensor, Part, chip_size
from pliant.compiler.cycles import matrix_cycles, post_cycles
from pliant.compiler.emission import LayerSteps
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Graph
from pliant.compiler.home import Home
from pliant.compiler.memory_plan import Constants, place_tensors
from pliant.compiler.operation import operations
from pliant.compiler.overlap import interleave
from pliant.compiler.step import Step, Sums
from pliant.compiler.tile import OnChip, Placement
from pliant.compiler.tiling import choose_tiling
from pliant.spec.config import ACCUMULATOR_BANKS, AcceleratorConfig, preset
from pliant.spec.isa import Matrix, Post

TINY = preset("tiny")
STARVED = dataclasses.replace(TINY, name="starved", weight_depth=64, accumulator_depth=16,
                              parameter_depth=16)


def pair(
    graph: Graph, config: AcceleratorConfig, rows: int, *, slots: int = 2
) -> list[list[Step]]:
    """Return the steps of a graph's two layers, the tensor between them in parts of `rows`."""
    lowered = optimize(graph, config)
    first, second = operations(lowered)
    tensors = lowered.tensors()
    size = chip_size(config, first.output.shape, rows)
    places, _ = place_tensors(lowered, config, reuse=False)
    homes = {name: Home(place) for name, place in places.items()}
    homes[first.output.name] = Home(chip=ChipTensor(
        config, first.output.shape, [Slot(turn * size, size) for turn in range(slots)], rows))
    start = slots * size
    layers = []
    for index, operation in enumerate((first, second)):
        geometry = Geometry.of(operation, config, tensors)
        tiling = choose_tiling(geometry, Placement(
            depth=(config.feature_depth - start) // (2 - index), tile_rows=rows,
            on_chip=OnChip(result=index == 0, sources=frozenset({0} if index else ()))))
        layers.append(LayerSteps(geometry, tiling, homes, Constants(config), layer=index,
                                 arena_start=start, at_once=2).steps)
        start += tiling.arena()
    return layers


def separable(
    builder: Callable[..., Any], config: AcceleratorConfig, *, channels: int, outputs: int,
    shape: tuple[int, int], kernel: int = 3, stride: int = 1,
) -> Graph:
    net = builder(0, (channels, *shape), config.multiplier_bits)
    return net.graph(net.convolution(net.depthwise(net.input, kernel, stride), outputs, 1))


def busy(layers: Sequence[Sequence[Step]], config: AcceleratorConfig) -> tuple[int, int]:
    """Return the cycles that matrix and post unit need for all steps."""
    steps = [step for layer in layers for step in layer]
    return (sum(matrix_cycles(step.matrix, config) for step in steps if step.matrix is not None),
            sum(post_cycles(step.post) for step in steps if step.post is not None))


@pytest.mark.parametrize(("config", "channels", "outputs", "shape", "kernel", "stride", "rows"), [
    (TINY, 12, 20, (11, 9), 3, 1, 3),
    (TINY, 7, 9, (12, 7), 5, 2, 1),
    (TINY, 5, 30, (9, 11), 3, 2, 5),  # all rows in one part
    (preset("pynq_z2"), 64, 64, (24, 28), 1, 1, 4),  # the first layer waits
    (STARVED, 26, 18, (10, 5), 3, 1, 3),  # weights in chunks: Matrix steps accumulate
    (STARVED, 9, 40, (13, 4), 3, 1, 4),  # several bands and tiles of channels
])
def test_every_order_is_legal(
    builder: Callable[..., Any], config: AcceleratorConfig, channels: int, outputs: int,
    shape: tuple[int, int], kernel: int, stride: int, rows: int,
) -> None:
    layers = pair(separable(builder, config, channels=channels, outputs=outputs, shape=shape,
                            kernel=kernel, stride=stride), config, rows)
    order, _ = interleave(layers, config)
    assert_units_keep_their_order(order, layers)
    assert_sums_are_complete_and_fit_the_banks(order)
    assert_parts_are_complete_and_read_before_they_give_way(order)


def assert_units_keep_their_order(order: list[Step], layers: list[list[Step]]) -> None:
    assert len(order) == sum(map(len, layers))
    for layer in layers:
        for matrix in (True, False):
            own = [step for step in layer if (step.matrix is not None) is matrix]
            members = set(own)
            assert [step for step in order if step in members] == own


def assert_sums_are_complete_and_fit_the_banks(order: list[Step]) -> None:
    left = Counter(step.sums for step in order if step.matrix is not None)
    started: set[Sums] = set()
    for step in order:
        if step.sums is None:
            continue
        if step.matrix is not None:
            assert bool(step.matrix.accumulate) is (step.sums in started)
            left[step.sums] -= 1
            started.add(step.sums)
            assert len(started) <= ACCUMULATOR_BANKS
        else:
            assert left[step.sums] == 0
            started.remove(step.sums)
    assert not started


def assert_parts_are_complete_and_read_before_they_give_way(order: list[Step]) -> None:
    written: dict[Part, np.ndarray] = {}
    readers = Counter(extent.part for step in order for extent in step.reads)
    occupants: dict[Slot, Part] = {}
    for step in order:
        for extent in step.reads:
            assert written[extent.part][slice(*extent.groups), slice(*extent.rows)].all()
            readers[extent.part] -= 1
        if step.writes is None:
            continue
        part = step.writes.part
        slot = part.buffer.slot
        assert slot is not None
        before = occupants.setdefault(slot, part)
        assert before is part or readers[before] == 0
        occupants[slot] = part
        groups = part.buffer.size // part.strides[0]
        done = written.setdefault(part, np.zeros((groups, part.height), bool))
        region = done[slice(*step.writes.groups), slice(*step.writes.rows)]
        assert not region.any()
        region[...] = True
    assert all(done.all() for done in written.values())
    assert not any(readers.values())


def test_a_layer_hides_behind_the_other(builder: Callable[..., Any]) -> None:
    config = preset("pynq_z2")
    graph = separable(builder, config, channels=64, outputs=64, shape=(56, 56))
    layers = pair(graph, config, 4)
    _, cycles = interleave(layers, config)
    matrix, post = busy(layers, config)
    assert min(matrix, post) > 0.6 * max(matrix, post)  # there is something to hide
    assert max(matrix, post) < cycles < 1.2 * max(matrix, post)


def test_a_second_slot_is_what_makes_layers_overlap(builder: Callable[..., Any]) -> None:
    config = preset("pynq_z2")
    graph = separable(builder, config, channels=64, outputs=64, shape=(56, 56))
    one, two = (pair(graph, config, 4, slots=slots) for slots in (1, 2))
    order, alone = interleave(one, config)
    assert_parts_are_complete_and_read_before_they_give_way(order)
    _, together = interleave(two, config)
    assert alone > 1.2 * together


@pytest.mark.parametrize("unit", ["matrix", "post"])
def test_of_steps_that_can_start_at_once_the_last_layers_comes_first(unit: str) -> None:
    if unit == "post":
        layers = [[Step(layer, post=Post())] for layer in (0, 1)]
    else:
        layers = []
        for layer in (0, 1):
            sums = Sums()
            layers.append([Step(layer, matrix=Matrix(), sums=sums),
                           Step(layer, post=Post(), sums=sums)])
    order, _ = interleave(layers, TINY)
    assert order[0].layer == 1
