"""Compiled programs, run on the instruction-level simulator, equal the integer graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate, graph_macs
from pliant.spec.config import PRESETS, AcceleratorConfig, preset
from pliant.spec.numerics import Rounding
from pliant.spec.program import Program, Segment
from pliant_models.random_layers import EXTRA_KINDS, random_inputs, random_layer
from pliant_models.torch_reference import torch_reference
from pliant_sim.simulator import InstructionSimulator

IMAGES = 2
CHUNK = 25


def assert_exact(
    graph: Graph, config: AcceleratorConfig, inputs: dict[str, NDArray[np.int8]], *,
    fuse: bool = True,
) -> Program:
    """Compile, simulate and compare every tensor that the program computes."""
    program = compile_graph(graph, config, keep_tensors=True, fuse=fuse)
    expected = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
    result = InstructionSimulator(config).run(program, [inputs[t.name] for t in graph.inputs])
    for name, values in result.tensors.items():
        assert np.array_equal(values, expected[name]), (graph.name, name)
    for name, values in zip(graph.outputs, result.outputs, strict=True):
        assert np.array_equal(values, expected[name]), (graph.name, name)
    assert program.macs == sum(
        graph_macs(node, graph.tensors()[node.inputs[0]].shape) for node in graph.nodes)
    return program


@pytest.mark.parametrize("first", range(0, 250, CHUNK))
def test_random_layers_are_exact_on_tiny(first: int) -> None:
    config = preset("tiny")
    for seed in range(first, first + CHUNK):
        graph = random_layer(seed, multiplier_bits=config.multiplier_bits)
        assert_exact(graph, config, random_inputs(graph, seed, images=IMAGES))


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_random_layers_are_exact_on_larger_presets(name: str) -> None:
    config = preset(name)
    for seed in range(1000, 1000 + 2 * CHUNK):
        graph = random_layer(seed, multiplier_bits=config.multiplier_bits)
        assert_exact(graph, config, random_inputs(graph, seed, images=IMAGES))


@pytest.mark.parametrize(("name", "first"), [
    ("tiny", 0), ("tiny", 40), ("tiny", 80), ("pynq_z2", 3000), ("ultra96", 3100),
    ("kv260", 3200)])
def test_random_depthwise_layers_are_exact(name: str, first: int) -> None:
    config = preset(name)
    for seed in range(first, first + 40):
        graph = random_layer(seed, multiplier_bits=config.multiplier_bits,
                             kind=EXTRA_KINDS[seed % len(EXTRA_KINDS)])
        inputs = random_inputs(graph, seed, images=IMAGES)
        assert_exact(graph, config, inputs)
        found = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
        expected = torch_reference(graph, inputs, multiplier_bits=config.multiplier_bits)
        for tensor, values in expected.items():
            assert np.array_equal(found[tensor], values), (graph.name, tensor)


def starved(name: str) -> AcceleratorConfig:
    """Return a preset with buffers so small that everything is cut."""
    shape = {"thin": (4, 4, 4), "square": (8, 8, 8), "wide": (4, 16, 8)}[name]
    rows, cols, axi = shape
    return AcceleratorConfig(
        name=name, rows=rows, cols=cols, axi_data_bytes=axi, feature_depth=128,
        weight_depth=64 * rows, tap_depth=64, parameter_depth=2 * cols,
        accumulator_depth=16, multiplier_bits=16, queue_depth=2)


@pytest.mark.parametrize("name", ["thin", "square", "wide"])
def test_random_layers_are_exact_with_starved_buffers(name: str) -> None:
    config = starved(name)
    kinds = ("convolution", "convolution_add_input", "add", "linear", "lookup", "depthwise",
             "depthwise_add_input")
    for seed in range(2000, 2000 + CHUNK):
        graph = random_layer(seed, multiplier_bits=config.multiplier_bits, max_size=20,
                             max_channels=40, kind=kinds[seed % len(kinds)])
        assert_exact(graph, config, random_inputs(graph, seed, images=IMAGES))


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("name", list(PRESETS))
def test_networks_are_exact(
    network: Callable[..., Graph], name: str, rounding: Rounding, fuse: bool
) -> None:
    config = preset(name)
    graph = network(3, config.multiplier_bits, rounding=rounding)
    program = assert_exact(graph, config, random_inputs(graph, 3, images=IMAGES), fuse=fuse)
    assert len(program.layers) == (9 if fuse else len(graph.nodes))


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("name", list(PRESETS))
def test_depthwise_networks_are_exact(
    inverted: Callable[..., Graph], name: str, rounding: Rounding
) -> None:
    config = preset(name)
    graph = inverted(3, config.multiplier_bits, rounding=rounding)
    program = assert_exact(graph, config, random_inputs(graph, 3, images=IMAGES))
    kinds = [layer.kind for layer in program.layers]
    assert kinds.count("depthwise") == 3
    assert kinds.count("depthwise+table") == kinds.count("convolution+add") == 1


def test_networks_are_exact_when_scratch_memory_is_reused(network: Callable[..., Graph]) -> None:
    config = preset("tiny")
    graph = network(4, config.multiplier_bits)
    inputs = random_inputs(graph, 4, images=IMAGES)
    program = compile_graph(graph, config)
    assert all(layer.output is None for layer in program.layers)
    assert program.scratch_bytes < compile_graph(graph, config, keep_tensors=True).scratch_bytes
    outputs = InstructionSimulator(config).run(program, [inputs["x"]]).outputs
    expected = evaluate(graph, inputs)
    for name, values in zip(graph.outputs, outputs, strict=True):
        assert np.array_equal(values, expected[name])


def test_unfused_programs_show_every_tensor(network: Callable[..., Graph]) -> None:
    graph = network(5, 31)
    program = compile_graph(graph, preset("tiny"), keep_tensors=True, fuse=False)
    kept = [layer.output.name for layer in program.layers if layer.output is not None]
    assert kept == [node.output.name for node in graph.nodes]


def test_layers_share_out_the_program(network: Callable[..., Graph]) -> None:
    program = compile_graph(network(6, 31), preset("tiny"))
    indices = [list(layer.indices()) for layer in program.layers]
    assert all(own and own == sorted(own) for own in indices)
    count = len(program.decoded())
    assert sorted(itertools.chain(*indices)) == list(range(count - 1))  # End belongs to none


def test_equal_graphs_compile_to_equal_programs(network: Callable[..., Graph]) -> None:
    first, second = (compile_graph(network(7, 16), preset("pynq_z2")) for _ in range(2))
    assert first == second


def test_inputs_and_outputs_lie_in_their_segments(network: Callable[..., Graph]) -> None:
    program = compile_graph(network(8, 16), preset("kv260"))
    assert [tensor.segment for tensor in program.inputs] == [Segment.INPUT]
    assert [tensor.segment for tensor in program.outputs] == [Segment.OUTPUT] * 2
