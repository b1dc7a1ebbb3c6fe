"""Layers overlap only where they may and where it pays; tensors on chip never get in the way."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pliant.compiler import compile_graph, optimize
from pliant.compiler.chip import MAX_SIDE, chip_size
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Convolution, Graph, Padding
from pliant.compiler.memory_plan import Constants
from pliant.compiler.operation import operations
from pliant.compiler.plan import Plan, Planner
from pliant.compiler.reference import evaluate
from pliant.compiler.schedule import Scheduler
from pliant.compiler.tiling import choose_tiling
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import Instruction, Load, Store
from pliant.spec.program import Program, Segment
from pliant_models.random_layers import random_inputs
from pliant_models.random_networks import random_network
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
SMALL = dataclasses.replace(TINY, name="small", feature_depth=256, parameter_depth=16)
CONFIGS = [TINY, SMALL, preset("pynq_z2")]
SEEDS = range(301, 304)


def planned(
    graph: Graph, config: AcceleratorConfig, *, keep_tensors: bool = False
) -> tuple[Planner, Plan]:
    planner = Planner(optimize(graph, config), config, keep_tensors=keep_tensors)
    return planner, planner.run(Constants(config))


@functools.cache
def planned_network(seed: int, config: AcceleratorConfig) -> tuple[Planner, Plan]:
    return planned(random_network(seed, multiplier_bits=config.multiplier_bits), config)


def assert_exact(graph: Graph, config: AcceleratorConfig) -> Program:
    inputs = random_inputs(graph, 0)
    expected = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
    program = compile_graph(graph, config)
    result = InstructionSimulator(config).run(program, [inputs[t.name] for t in graph.inputs])
    for name, values in zip(graph.outputs, result.outputs, strict=True):
        assert np.array_equal(values, expected[name]), (graph.name, name)
    return program


# Which layers may overlap

def windows(builder: Callable[..., Any]) -> tuple[Any, Any]:
    """Return a builder after a layer, and that layer's result."""
    net = builder(0, (16, 24, 24), TINY.multiplier_bits)
    return net, net.convolution(net.input, 16, 3)


@pytest.mark.parametrize("first", ["depthwise", "max_pool", "lookup"])
def test_a_window_of_the_post_unit_is_paired_with_the_pointwise_layer_behind(
    builder: Callable[..., Any], first: str
) -> None:
    net, value = windows(builder)
    graph = net.graph(net.convolution(getattr(net, first)(value), 24, 1))
    stages = Planner(optimize(graph, TINY, fuse=first != "lookup"), TINY,
                     keep_tensors=False).stages
    assert stages == [(0,), (1, 2)]


@pytest.mark.parametrize("reason", [
    "kernel", "stride", "padding", "readers", "output", "tables", "convolution"])
def test_other_layers_are_not(builder: Callable[..., Any], reason: str) -> None:
    net, value = windows(builder)
    deep = (net.convolution(value, 16, 1) if reason == "convolution" else net.depthwise(value))
    if reason == "tables":
        deep = net.lookup(deep)
    last = net.convolution(deep, 24, kernel=3 if reason == "kernel" else 1,
                           stride=2 if reason == "stride" else 1,
                           padding=1 if reason in ("kernel", "padding") else 0)
    outputs = [net.lookup(last) if reason == "tables" else last]
    if reason == "readers":
        outputs.append(net.convolution(deep, 4, 3))
    elif reason == "output":
        outputs.append(deep)
    stages = Planner(optimize(net.graph(*outputs), TINY), TINY, keep_tensors=False).stages
    assert {len(stage) for stage in stages} == {1}


@pytest.mark.parametrize("side", ["top", "left", "bottom", "right"])
def test_padding_on_one_side_is_enough_to_keep_layers_apart(
    builder: Callable[..., Any], side: str
) -> None:
    net, value = windows(builder)
    last = net.convolution(net.depthwise(value), 24, 1)
    padded = Padding(**{side: 1})
    node = net.nodes[-1]
    assert isinstance(node, Convolution)
    _, height, width = last.shape
    tall = side in ("top", "bottom")
    output = dataclasses.replace(last, shape=(24, height + tall, width + (not tall)))
    net.nodes[-1] = dataclasses.replace(node, padding=padded, output=output)
    graph = net.graph(output)
    assert Planner(optimize(graph, TINY), TINY, keep_tensors=False).stages == [(0,), (1,), (2,)]
    assert_exact(graph, TINY)


# What pays and fits

def test_a_pair_that_does_not_pay_is_computed_one_by_one(builder: Callable[..., Any]) -> None:
    kept = []
    for outputs in (128, 8):  # weights of many outputs would be loaded again for each part
        net = builder(0, (8, 16, 16), TINY.multiplier_bits)
        graph = net.graph(net.convolution(net.depthwise(net.input), outputs, 1))
        planner, _ = planned(graph, TINY)
        kept.append(planner.stages)
        assert_exact(graph, TINY)
    assert kept == [[(0,), (1,)], [(0, 1)]]


def test_a_pair_that_does_not_fit_is_computed_one_by_one(builder: Callable[..., Any]) -> None:
    net = builder(0, (40, 16, 16), TINY.multiplier_bits)
    graph = net.graph(net.convolution(net.depthwise(net.input), 24, 1))
    found = {}
    for depth in (64, 512):
        config = dataclasses.replace(TINY, feature_depth=depth)
        found[depth] = planned(graph, config)[0].stages
        assert_exact(graph, config)
    assert found == {64: [(0,), (1,)], 512: [(0, 1)]}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_overlap_and_tensors_on_chip_never_cost_cycles(config: AcceleratorConfig) -> None:
    faster = 0
    for seed in SEEDS:
        planner, plan = planned_network(seed, config)
        tensors = planner.graph.tensors()
        apart = sum(
            choose_tiling(Geometry.of(operation, config, tensors)).cycles
            for operation in operations(planner.graph))
        assert sum(plan.estimated_cycles) <= apart, seed
        faster += sum(plan.estimated_cycles) < apart
    assert faster > len(SEEDS) / 2


# Tensors on chip

@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_what_is_on_chip_at_the_same_time_never_overlaps(config: AcceleratorConfig) -> None:
    residents = 0
    for seed in SEEDS:
        planner, plan = planned_network(seed, config)
        shapes = planner.graph.tensors()
        for index, stage in enumerate(plan.stages):
            slots = stage.arena.slots
            assert all(0 <= slot.first <= config.feature_depth - slot.size for slot in slots)
            assert not any(a.overlaps(b) for a, b in itertools.combinations(slots, 2)), seed
            alive = [resident.slot for resident in planner.residents.values()
                     if resident.first <= index <= resident.last]
            assert {id(slot) for slot in alive} <= {id(slot) for slot in slots}
        for name, resident in planner.residents.items():
            assert resident.slot.size == chip_size(config, shapes[name].shape)
            assert name not in planner.graph.outputs
        residents += len(planner.residents)
    assert residents > len(SEEDS)


@pytest.mark.parametrize("keep_tensors", [False, True])
def test_every_word_of_what_is_in_memory_is_stored(keep_tensors: bool) -> None:
    for seed in SEEDS:
        graph = random_network(seed, multiplier_bits=SMALL.multiplier_bits)
        planner, plan = planned(graph, SMALL, keep_tensors=keep_tensors)
        Scheduler(SMALL, plan.stages).run()
        assert all(tensor.ready.all() for tensor in plan.tensors.values())
        inner = {operation.output.name for operation in planner.operations}
        assert set(graph.outputs) <= set(plan.tensors)
        assert {plan.tensors[name].info.segment for name in graph.outputs} == {Segment.OUTPUT}
        on_chip = inner - set(plan.tensors)
        assert set(planner.residents) <= (set(plan.tensors) if keep_tensors else on_chip)
        assert not (keep_tensors and on_chip)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_keeping_tensors_adds_stores_and_changes_nothing_else(config: AcceleratorConfig) -> None:
    for seed in SEEDS:
        graph = random_network(seed, multiplier_bits=config.multiplier_bits)
        lean, kept = (compile_graph(graph, config, keep_tensors=keep) for keep in (False, True))
        assert without_stores(lean) == without_stores(kept), seed


def without_stores(program: Program) -> list[Instruction]:
    """Return the other instructions, without tokens and places of features in memory."""
    result: list[Instruction] = []
    for instruction in program.decoded():
        if isinstance(instruction, Load) and instruction.segment != Segment.CONSTANTS:
            instruction = dataclasses.replace(instruction, segment=0, offset=0)
        if not isinstance(instruction, Store):
            result.append(dataclasses.replace(instruction, wait=0, signal=0))
    return result


@pytest.mark.parametrize("stride", [1, 2])
def test_the_result_of_a_pair_does_not_take_the_bytes_of_what_the_pair_still_reads(
    builder: Callable[..., Any], stride: int
) -> None:
    net = builder(0, (8, 120, 9), TINY.multiplier_bits)
    wide = net.convolution(net.input, 16, 1)
    narrow = net.convolution(net.depthwise(wide, 3, stride), 24, 1)
    graph = net.graph(net.convolution(narrow, 8, 1))
    planner, plan = planned(graph, TINY)
    assert (1, 2) in planner.stages
    assert {wide.name, narrow.name} <= set(plan.tensors)  # too large for the feature buffer
    ranges = sorted((place.info.offset, place.ready.size * TINY.lanes)
                    for place in (plan.tensors[wide.name], plan.tensors[narrow.name]))
    assert sum(ranges[0]) <= ranges[1][0]
    assert_exact(graph, TINY)


@pytest.mark.parametrize("shape", [(1, MAX_SIDE), (1, MAX_SIDE + 1)])
def test_tensors_whose_pixels_instructions_cannot_name_stay_in_memory(
    builder: Callable[..., Any], shape: tuple[int, int]
) -> None:
    config = dataclasses.replace(TINY, feature_depth=4096, accumulator_depth=512)
    net = builder(0, (4, *shape), config.multiplier_bits)
    graph = net.graph(net.convolution(net.convolution(net.input, 4, 1), 4, 1))
    planner, _ = planned(graph, config)
    assert bool(planner.residents) is (max(shape) <= MAX_SIDE)
    assert_exact(graph, config)


def test_a_tensor_that_is_read_much_later_may_stay(builder: Callable[..., Any]) -> None:
    net = builder(0, (8, 7, 5), TINY.multiplier_bits)
    early = value = net.convolution(net.input, 8, 3)
    for _ in range(3):
        value = net.depthwise(value)
        value = net.convolution(value, 8, 1)
    graph = net.graph(net.add(net.convolution(value, 8, 3), early))
    planner, plan = planned(graph, TINY)
    assert planner.residents[early.name].last == len(planner.stages) - 1 > 3
    loaded = {load.tensor.info.name for stage in plan.stages for step in stage.steps
              for load in step.loads if load.tensor is not None}
    assert loaded == {"x"}
    assert_exact(graph, TINY)
