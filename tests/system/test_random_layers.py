"""Random layers: PyTorch integers == instruction simulator == RTL."""

from functools import cache

import numpy as np
import pytest

from pliant.compiler import compile_graph
from pliant.spec.config import FEATURE_BANKS, preset
from pliant_hw.dsp import FAMILIES
from pliant_hw.packed_array import packed
from pliant_hw.verilog import generate
from pliant_models.random_layers import (
    DEFORMABLE_KINDS,
    DISPLACED_KINDS,
    EXTRA_KINDS,
    MAX_CHANNELS,
    random_inputs,
    random_layer,
)
from pliant_models.torch_reference import torch_reference
from pliant_sim.core import MemoryTiming
from pliant_sim.rtl import RtlMachine
from pliant_sim.simulator import InstructionSimulator

# Seeds by configuration: `tiny` tiles most of its layers, the wide ones hold most of them whole.
SEEDS = {"tiny": range(0, 240), "pynq_z2": range(1000, 1060), "ultra96": range(2000, 2060)}
DEPTHWISE_SEEDS = {"tiny": range(7000, 7120), "pynq_z2": range(8000, 8040),
                   "ultra96": range(9000, 9040)}
DEFORMABLE_SEEDS = {"tiny": range(10000, 10120), "ultra96": range(12000, 12030)}
DISPLACED_SEEDS = {"tiny": range(14000, 14060), "ultra96": range(15000, 15020)}
CHUNK = 10


@cache
def machine(name: str, family: str | None = None) -> RtlMachine:
    """Return the core of a preset, with the plain array or with that packed for a DSP family."""
    config = preset(name)
    return RtlMachine(
        config, source=generate(config, packed(FAMILIES[family])) if family else None)


def check(
    name: str, seed: int, timing: MemoryTiming | None = None, kind: str | None = None,
    family: str | None = None, most_groups: int = 0,
) -> None:
    config = preset(name)
    graph = random_layer(seed, multiplier_bits=config.multiplier_bits, kind=kind,
                         max_channels=max(MAX_CHANNELS, most_groups * config.lanes))
    inputs = random_inputs(graph, seed)
    expected = torch_reference(graph, inputs, multiplier_bits=config.multiplier_bits)
    program = compile_graph(graph, config)
    tensors = [inputs[tensor.name] for tensor in graph.inputs]
    simulated = InstructionSimulator(config).run(program, tensors)
    rtl = machine(name, family)
    rtl.core.set_timing(timing or MemoryTiming.of_board(config))
    executed = rtl.run(program, [tensor[0] for tensor in tensors])
    for index, output in enumerate(graph.outputs):
        where = f"{graph.name} (seed {seed}) on {name}, output {output}"
        np.testing.assert_array_equal(simulated.outputs[index], expected[output],
                                      err_msg=f"simulator differs from PyTorch: {where}")
        np.testing.assert_array_equal(executed.outputs[index], expected[output][0],
                                      err_msg=f"RTL differs from PyTorch: {where}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, seeds in SEEDS.items() for first in seeds[::CHUNK]],
)
def test_torch_simulator_and_rtl_give_the_same_integers(name: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, seeds in DEPTHWISE_SEEDS.items() for first in seeds[::CHUNK]],
)
def test_depthwise_layers_give_the_same_integers(name: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(name, seed, kind=EXTRA_KINDS[seed % len(EXTRA_KINDS)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, seeds in DEFORMABLE_SEEDS.items() for first in seeds[::CHUNK]],
)
def test_deformable_layers_give_the_same_integers(name: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(name, seed, kind=DEFORMABLE_KINDS[seed % len(DEFORMABLE_KINDS)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [(name, first) for name, seeds in DISPLACED_SEEDS.items() for first in seeds[::CHUNK]],
)
def test_displaced_layers_give_the_same_integers(name: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(name, seed, kind=DISPLACED_KINDS[seed % len(DISPLACED_KINDS)],
              most_groups=2 * FEATURE_BANKS + 1)


@pytest.mark.slow
def test_a_few_random_layers_on_the_tiny_core_with_a_packed_array() -> None:
    for seed in range(5100, 5112):
        check("tiny", seed, family="DSP48E1")


@pytest.mark.slow
def test_random_layers_on_a_core_with_cascades_of_sixteen() -> None:
    for seed in range(1100, 1108):
        check("pynq_z2", seed, family="DSP48E2")


def test_a_few_depthwise_layers_on_the_tiny_core() -> None:
    for seed, kind in enumerate(EXTRA_KINDS, start=7300):
        check("tiny", seed, kind=kind)


def test_a_few_deformable_layers_on_the_tiny_core() -> None:
    for seed, kind in enumerate(DEFORMABLE_KINDS, start=10300):
        check("tiny", seed, kind=kind)


def test_a_few_displaced_layers_on_the_tiny_core() -> None:
    for seed, kind in enumerate(DISPLACED_KINDS, start=14300):
        check("tiny", seed, kind=kind)


def test_a_few_random_layers_on_the_tiny_core() -> None:
    for seed in range(5000, 5012):
        check("tiny", seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_results_do_not_depend_on_the_memory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    timing = MemoryTiming(
        latency=int(rng.integers(1, 200)), bytes_per_cycle=float(rng.choice([0, 0.7, 3, 8])),
        outstanding=int(rng.integers(1, 17)), interleave=bool(rng.integers(2)),
        backpressure_seed=seed,
    )
    for layer in range(3):
        check("tiny", 6000 + 3 * seed + layer, timing)
