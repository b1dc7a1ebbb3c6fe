"""Random PyTorch networks: the model, the graph, the simulator and the RTL give the same integers.

Seeds name the networks.
"""

import functools

import numpy as np
import pytest
import torch

from pliant.compiler import compile_graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant_models.export import export, input_integers, model_integers
from pliant_models.quantize import calibrate, quantize
from pliant_models.random_modules import RandomModule
from pliant_sim.rtl import RtlMachine
from pliant_sim.simulator import InstructionSimulator

LAYERS = range(2, 9)
CHUNK = 10


@functools.cache
def machine(name: str) -> RtlMachine:
    return RtlMachine(preset(name))


def check(seed: int, name: str, *, rtl: bool) -> None:
    """Compare every tensor of a network at every level; the first image saturates."""
    network = RandomModule(seed, LAYERS[seed % len(LAYERS)])
    model = quantize(network, torch.zeros(1, *network.shape))
    calibrate(model, [torch.randn(8, *network.shape) for _ in range(2)])
    graph = export(model, name=f"module_{seed}")
    images = 2 * torch.randn(2, *network.shape)
    images[0] *= 50
    expected = model_integers(model, images)
    source = graph.inputs[0].name
    np.testing.assert_array_equal(input_integers(model, images), expected[source])
    found = evaluate(graph, expected[source])
    config = preset(name)
    program = compile_graph(graph, config)
    simulator = InstructionSimulator(config)
    found |= {f"simulated {output}": value for output, value in zip(
        graph.outputs, simulator.run(program, [expected[source]]).outputs, strict=True)}
    for fuse in (True, False):
        kept = compile_graph(graph, config, keep_tensors=True, fuse=fuse)
        tensors = simulator.run(kept, [expected[source]]).tensors
        found |= {f"kept, {fuse=} {tensor}": value for tensor, value in tensors.items()}
    if rtl:
        runs = [machine(name).run(program, [image]).outputs for image in expected[source]]
        found |= {f"RTL {output}": np.stack([run[index] for run in runs])
                  for index, output in enumerate(graph.outputs)}
    for tensor, value in found.items():
        np.testing.assert_array_equal(value, expected[tensor.split()[-1]],
                                      err_msg=f"{graph.name} on {name}: {tensor}")


@pytest.mark.parametrize("seed", range(6))
def test_a_random_module_gives_the_same_integers(seed: int) -> None:
    check(seed, "tiny", rtl=True)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 140, CHUNK))
def test_random_modules_on_the_tiny_core(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed, "tiny", rtl=True)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(200, 220, CHUNK))
def test_random_modules_for_a_core_of_32_columns(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed, "ultra96", rtl=False)
