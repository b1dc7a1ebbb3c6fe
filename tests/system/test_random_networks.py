"""Random networks: PyTorch integers == instruction simulator == RTL, in every legal order."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.compiler.test_tokens import run_interleaved

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.program import Program
from pliant_models.random_layers import random_inputs
from pliant_models.random_networks import BLOCKS, SELECTING, random_network
from pliant_models.torch_reference import torch_reference
from pliant_sim.core import MemoryTiming
from pliant_sim.rtl import RtlMachine
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
CONFIGS = {config.name: config for config in (
    TINY, preset("pynq_z2"), preset("ultra96"),
    dataclasses.replace(TINY, name="half", feature_depth=256),
    dataclasses.replace(TINY, name="quarter", feature_depth=128),
    dataclasses.replace(TINY, name="roomy", feature_depth=4096),
    dataclasses.replace(TINY, name="two records", parameter_depth=2 * TINY.cols, tap_depth=32,
                        weight_depth=256),
    dataclasses.replace(TINY, name="starved", feature_depth=256, parameter_depth=2 * TINY.cols,
                        tap_depth=32, weight_depth=128, accumulator_depth=16, queue_depth=2),
    dataclasses.replace(TINY, name="single words", cols=4, axi_data_bytes=4, feature_depth=256,
                        parameter_depth=8),
    dataclasses.replace(TINY, name="wide tiles", cols=16, parameter_depth=32),
)}
SIMULATED = {"tiny": range(1000, 1010), "half": range(1100, 1110), "quarter": range(1200, 1210),
             "roomy": range(1300, 1310), "two records": range(1400, 1410),
             "starved": range(1500, 1510), "single words": range(1600, 1610),
             "wide tiles": range(1700, 1710), "pynq_z2": range(1800, 1810),
             "ultra96": range(1900, 1910)}
ON_RTL = {"tiny": range(2000, 2030), "pynq_z2": range(2100, 2110)}
FIRST_SELECTING = 3000
"""From this seed on, networks select channels, work in groups and upsample."""
SIMULATED_SELECTING = {"tiny": range(3000, 3005), "starved": range(3500, 3505),
                       "wide tiles": range(3700, 3705)}
ON_RTL_SELECTING = {"tiny": range(4000, 4020), "pynq_z2": range(4100, 4110)}
CHUNK = 5
Tensors = dict[str, NDArray[np.int8]]


def network(seed: int, config: AcceleratorConfig) -> tuple[Graph, Tensors, Tensors]:
    """Return a network, inputs, and what PyTorch makes of them."""
    graph = random_network(
        seed, multiplier_bits=config.multiplier_bits, blocks=2 + seed % 5,
        kinds=SELECTING if seed >= FIRST_SELECTING else BLOCKS)
    inputs = random_inputs(graph, seed)
    return graph, inputs, torch_reference(graph, inputs, multiplier_bits=config.multiplier_bits)


def assert_equal(graph: Graph, found: Tensors, expected: Tensors, where: str) -> None:
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name],
                                      err_msg=f"{graph.name}, {name}: {where}")


def check_simulated(seed: int, config: AcceleratorConfig) -> None:
    """Compare outputs, then every layer's result, then outputs in two other orders."""
    graph, inputs, expected = network(seed, config)
    tensors = [inputs[tensor.name] for tensor in graph.inputs]
    simulator = InstructionSimulator(config)
    program = compile_graph(graph, config)
    result = simulator.run(program, tensors)
    assert_equal(graph, named(graph, result.outputs), expected, f"{config.name}, in order")
    for fuse in (True, False):
        kept = simulator.run(
            compile_graph(graph, config, keep_tensors=True, fuse=fuse), tensors).tensors
        assert set(kept) >= ({node.output.name for node in graph.nodes} if not fuse
                             else set(graph.outputs))
        assert_equal(graph, kept, expected, f"{config.name}, kept, {fuse=}")
    for order in (2 * seed, 2 * seed + 1):  # an odd one lets units run ahead
        outputs = run_interleaved(program, config, tensors, order)
        assert_equal(graph, named(graph, outputs), expected, f"{config.name}, order {order}")


def named(graph: Graph, outputs: list[NDArray[np.int8]]) -> Tensors:
    return dict(zip(graph.outputs, outputs, strict=True))


@cache
def machine(name: str) -> RtlMachine:
    return RtlMachine(CONFIGS[name])


def check_rtl(name: str, seed: int, timing: MemoryTiming | None = None) -> Program:
    config = CONFIGS[name]
    graph, inputs, expected = network(seed, config)
    program = compile_graph(graph, config)
    rtl = machine(name)
    rtl.core.set_timing(timing or MemoryTiming.of_board(config))
    executed = rtl.run(program, [inputs[tensor.name][0] for tensor in graph.inputs])
    assert_equal(graph, named(graph, [output[np.newaxis] for output in executed.outputs]),
                 expected, f"RTL of {name}")
    return program


@pytest.mark.parametrize(("name", "seed"), [
    ("tiny", 1), ("half", 2), ("two records", 3), ("starved", 4), ("single words", 5),
    ("wide tiles", 6), ("pynq_z2", 7), ("tiny", 3000), ("half", 3001), ("pynq_z2", 3002),
    ("starved", 3003), ("wide tiles", 3004)])
def test_a_random_network_gives_the_same_integers(name: str, seed: int) -> None:
    check_simulated(seed, CONFIGS[name])


def test_random_networks_on_the_tiny_core() -> None:
    for seed in (0, 1, 2, FIRST_SELECTING, FIRST_SELECTING + 1):
        check_rtl("tiny", seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, seeds in [*SIMULATED.items(), *SIMULATED_SELECTING.items()]
     for first in seeds[::CHUNK]])
def test_torch_and_simulator_give_the_same_integers(name: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        check_simulated(seed, CONFIGS[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, seeds in [*ON_RTL.items(), *ON_RTL_SELECTING.items()]
     for first in seeds[::CHUNK]])
def test_torch_and_rtl_give_the_same_integers(name: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        check_rtl(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_networks_do_not_depend_on_the_memory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    timing = MemoryTiming(
        latency=int(rng.integers(1, 200)), bytes_per_cycle=float(rng.choice([0, 0.7, 3, 8])),
        outstanding=int(rng.integers(1, 17)), interleave=bool(rng.integers(2)),
        backpressure_seed=seed,
    )
    for number in range(2):
        check_rtl("tiny", 2200 + 2 * seed + number, timing)
