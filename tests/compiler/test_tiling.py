"""Tilings fit the buffers and cover every output once; buffers never overlap while in use."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pliant.compiler import compile_graph, optimize
from pliant.compiler.buffers import Arena, Buffer, Ring, Slot, allocate_slot
from pliant.compiler.emission import LayerSteps
from pliant.compiler.geometry import Axis, Geometry, halvings
from pliant.compiler.home import Home
from pliant.compiler.memory_plan import Constants, place_tensors
from pliant.compiler.operation import operations
from pliant.compiler.reference import evaluate
from pliant.compiler.step import Step
from pliant.compiler.tiling import choose_tiling
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import Target
from pliant.spec.memory import row_patches
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
SMALL = dataclasses.replace(TINY, name="small", feature_depth=256, weight_depth=256,
                            accumulator_depth=16)


def steps_of(
    seed: int, config: AcceleratorConfig, kind: str | None = None
) -> list[tuple[Geometry, LayerSteps]]:
    layer = random_layer(seed, multiplier_bits=config.multiplier_bits, kind=kind)
    graph = optimize(layer, config)
    places, _ = place_tensors(graph, config, reuse=True)
    homes = {name: Home(place) for name, place in places.items()}
    tensors = graph.tensors()
    result = []
    for index, operation in enumerate(operations(graph)):
        geometry = Geometry.of(operation, config, tensors)
        result.append((geometry, LayerSteps(
            geometry, choose_tiling(geometry), homes, Constants(config), layer=index,
            arena_start=0)))
    return result


@pytest.mark.parametrize("kind", [None, "depthwise"])
@pytest.mark.parametrize("config", [TINY, SMALL, preset("pynq_z2")], ids=lambda c: c.name)
def test_steps_compute_every_output_once_and_fit(
    config: AcceleratorConfig, kind: str | None
) -> None:
    for seed in range(80 if kind is None else 40):
        for geometry, layer in steps_of(seed, config, kind):
            shape = geometry.output_groups, geometry.rows.outputs, geometry.output_pitch()
            count = np.zeros(shape, int)
            for step in layer.steps:
                assert_step_fits(step, layer, config)
                for task in step.stores:
                    count[tuple(slice(*r) for r in dataclasses.astuple(task.part))] += 1
            assert (count == 1).all(), seed
            slots = sum(slot.size for slot in layer.arena.slots)
            assert slots <= config.feature_depth


def assert_step_fits(step: Step, layer: LayerSteps, config: AcceleratorConfig) -> None:
    for buffer in (step.input, step.output, step.residual):
        if buffer is not None:
            assert buffer.slot is not None
            assert buffer.size <= buffer.slot.size
    if step.matrix is not None:
        assert step.matrix.out_height * step.matrix.out_width <= config.accumulator_depth
        assert step.weights is not None
        assert step.weights.size <= config.weight_depth
    if step.taps is not None:
        assert step.taps.size <= config.tap_depth


def test_small_buffers_need_every_kind_of_cut() -> None:
    layers = [layer for seed in range(150) for _, layer in steps_of(seed, SMALL)
              if layer.geometry.matrix]
    tilings = [layer.tiling for layer in layers]
    assert any(len(layer.column_tiles) > 1 for layer in layers)
    assert any(len(layer.row_tiles) > 1 for layer in layers)
    assert any(t.tile_height > t.band_height for t in tilings)
    assert any(t.input_chunk < layer.geometry.input_groups
               for t, layer in zip(tilings, layers, strict=True))
    assert any(t.weight_chunk < t.input_chunk for t in tilings)
    assert {t.weights_resident for t in tilings} == {True, False}


def test_taps_that_do_not_fit_at_once_take_turns() -> None:
    config = dataclasses.replace(TINY, name="few taps", tap_depth=64)
    layers = [layer for seed in range(60) for _, layer in steps_of(seed, config, "depthwise")]
    assert {layer.tiling.weights_resident for layer in layers} == {True, False}
    cut = [layer for layer in layers if not layer.tiling.weights_resident]
    held = {layer.geometry.patches * layer.tiling.channel_groups for layer in cut}
    assert min(held) <= 32 < max(held)  # two at a time, or one if it is that large
    assert any(layer.tiling.channel_groups < config.groups_per_tile for layer in cut)


@pytest.mark.parametrize(("kernel", "dilation", "reads"), [(1, 1, 1), (2, 1, 1), (3, 1, 4),
                                                           (3, 2, 9), (3, 3, 4), (7, 1, 16)])
def test_a_row_of_windows_costs_a_cycle_for_each_patch(
    builder: Callable[..., Any], kernel: int, dilation: int, reads: int
) -> None:
    net = builder(0, (4, 24, 24), TINY.multiplier_bits)
    net.depthwise(net.input, kernel, dilation=dilation)
    [operation] = operations(optimize(net.graph(net.nodes[0].output), TINY))
    geometry = Geometry(operation, TINY, net.input.shape)
    height, width = operation.output.shape[1:]
    assert geometry.patches == reads
    pairs = row_patches((kernel, kernel), 1, (dilation, dilation), width, depthwise=True)
    assert geometry.row_cycles(width) == pairs <= width * reads
    assert choose_tiling(geometry).cycles >= height * pairs


@pytest.mark.parametrize(("channels", "outputs", "kernel", "size", "order"), [
    (16, 64, 5, 24, "channel-tile-band"),  # weights are more than inputs: load them once
    (20, 70, 5, 12, "tile-channel-band"),  # one input tile of several bands
    (32, 64, 3, 24, "tile-band-channel"),
])
def test_the_loop_order_follows_the_traffic_and_is_exact(
    builder: Callable[..., Any], channels: int, outputs: int, kernel: int, size: int, order: str
) -> None:
    net = builder(0, (channels, size, size), TINY.multiplier_bits)
    graph = net.graph(net.convolution(net.input, outputs, kernel))
    [operation] = operations(optimize(graph, TINY))
    tiling = choose_tiling(Geometry(operation, TINY, graph.inputs[0].shape))
    assert tiling.order == order
    assert not tiling.weights_resident
    image = random_inputs(graph, 0)["x"]
    result = InstructionSimulator(TINY).run(compile_graph(graph, TINY), [image])
    assert np.array_equal(result.outputs[0], evaluate(graph, image)[graph.outputs[0]])


def test_a_span_covers_exactly_what_its_outputs_read() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        inputs, kernel, stride, dilation, before, after = (
            int(rng.integers(low, high)) for low, high in
            ((1, 30), (1, 8), (1, 4), (1, 3), (0, 4), (0, 4)))
        outputs = (inputs + before + after - dilation * (kernel - 1) - 1) // stride + 1
        if outputs < 1:
            continue
        align = int(rng.choice([1, 2]))
        axis = Axis(inputs, outputs, kernel, stride, dilation, before, align)
        size = int(rng.integers(1, outputs + 1))
        spans = axis.split(size)
        assert [s.start for s in spans] == list(range(0, outputs, size))
        for span in spans:
            read = {o * stride - before + k * dilation
                    for o in range(span.start, span.stop) for k in range(kernel)}
            real = {position for position in read if 0 <= position < inputs}
            assert real <= set(range(span.first, span.first + span.size))
            assert span.first + span.origin == span.start * stride - before
            assert span.first % align == span.last % align == 0
            assert 1 <= span.size <= span.inputs
            assert span.first + span.size <= inputs


@pytest.mark.parametrize("size", [1, 2, 7, 28, 224])
def test_halvings_go_from_all_to_one(size: int) -> None:
    sizes = list(halvings(size))
    assert sizes[0] == size
    assert sizes[-1] == 1
    assert all(a > b for a, b in itertools.pairwise(sizes))


def test_a_ring_goes_round_and_never_overlaps_what_is_needed() -> None:
    rng = np.random.default_rng(1)
    ring, live, refused = Ring(100), [], 0
    for step in range(500):
        live = [buffer for buffer in live if buffer.last_step >= step]
        buffer = Buffer(Target.WEIGHT, int(rng.integers(1, 60)),
                        last_step=step + int(rng.integers(0, 4)))
        if not ring.allocate(buffer, step):
            refused += 1
            continue
        assert buffer.address is not None
        assert 0 <= buffer.address <= 100 - buffer.size
        for other in live:
            assert other.address is not None
            assert (other.address + other.size <= buffer.address
                    or buffer.address + buffer.size <= other.address)
        live.append(buffer)
    assert 0 < refused < 400


def test_a_ring_takes_the_place_freed_longest_ago() -> None:
    ring = Ring(10)
    addresses = []
    for step in range(6):
        buffer = Buffer(Target.WEIGHT, 4, last_step=step)
        assert ring.allocate(buffer, step)
        addresses.append(buffer.address)
    assert addresses == [0, 4, 0, 4, 0, 4]


def test_slots_of_a_later_layer_wait_for_those_they_overlap() -> None:
    before = Arena([Slot(0, 10, last_step=5), Slot(10, 10, last_step=3)])
    after = Arena([Slot(12, 6), Slot(5, 6)])
    buffers = [Buffer(Target.FEATURE, 6, slot) for slot in after.slots]
    assert not allocate_slot(buffers[0], [before, after], 3)
    assert allocate_slot(buffers[0], [before, after], 4)
    assert not allocate_slot(buffers[1], [before, after], 4)
    assert allocate_slot(buffers[1], [before, after], 6)
    assert [buffer.address for buffer in buffers] == [12, 5]


def test_a_slot_serves_its_next_buffer_after_the_last_use_of_the_one_before() -> None:
    slot = Slot(0, 8, last_step=9)
    arena = Arena([slot])
    first, second = (Buffer(Target.FEATURE, 8, slot, last_step=step) for step in (2, 9))
    assert allocate_slot(first, [arena], 0)
    assert not allocate_slot(second, [arena], 2)
    assert allocate_slot(second, [arena], 3)


def test_tensors_in_scratch_share_bytes_only_when_no_longer_needed(network) -> None:  # type: ignore
    graph = optimize(network(0, 31), TINY)
    places, size = place_tensors(graph, TINY, reuse=True)
    alive: dict[str, tuple[int, int]] = {}
    for step, node in enumerate(graph.nodes):
        readers = [i for i, later in enumerate(graph.nodes) if node.output.name in later.inputs]
        alive[node.output.name] = step, max(readers, default=step)
    scratch = [name for name in alive if name not in graph.outputs]
    for a, b in itertools.combinations(scratch, 2):
        if alive[a][0] <= alive[b][1] and alive[b][0] <= alive[a][1]:
            ranges = sorted((places[n].info.offset, places[n].ready.size * TINY.lanes)
                            for n in (a, b))
            assert ranges[0][0] + ranges[0][1] <= ranges[1][0], (a, b)
    assert size < sum(places[name].ready.size * TINY.lanes for name in scratch)


def test_equal_constants_are_stored_once() -> None:
    constants = Constants(TINY)
    first = constants.place(np.arange(10, dtype=np.int8))
    assert constants.place(np.ones(3, np.int8)) == 64
    assert constants.place(np.arange(10, dtype=np.int8)) == first == 0
    assert len(constants.data()) == 128
