"""How well one layer uses the array, from RTL cycles with a stated memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pliant.compiler import compile_graph
from pliant.compiler.graph import Convolution, Graph, Padding, Requantization, Tensor
from pliant.compiler.reference import evaluate
from pliant_sim.comparison import RTL, compare
from pliant_sim.rtl import MemoryTiming, RtlMachine

CHANNELS, SIZE, KERNEL = 64, 28, 3
SEED = 1
TIMING = MemoryTiming(latency=60, bytes_per_cycle=16)
"""Memory that the layer is timed with: 16 bytes per cycle, 60 cycles latency."""


@dataclass(frozen=True, kw_only=True)
class SingleLayer:
    """How one convolution ran on the RTL.

    `macs` are the useful multiply-accumulates (kernel taps on padding do not count), `array_use`
    their share of what a full array does in `cycles`, `equal` whether the result is that of the
    integer graph.
    """

    layer: str
    bytes_per_cycle: float
    latency: int
    macs: int
    cycles: int
    array_use: float
    kilocycles_per_cpu_second: float
    equal: bool


def layer_graph() -> Graph:
    """Return a 3x3 convolution, 64 to 64 channels, 28x28 pixels, with random weights."""
    random = np.random.default_rng(SEED)
    weight = random.integers(-127, 128, (CHANNELS, CHANNELS, KERNEL, KERNEL)).astype(np.int8)
    shape = (CHANNELS, SIZE, SIZE)
    layer = Convolution(
        name="convolution", inputs=("input",), output=Tensor(name="output", shape=shape),
        weight=weight, bias=random.integers(-1000, 1000, CHANNELS).astype(np.int32),
        requantization=Requantization(multiplier=random.integers(128, 256, CHANNELS),
                                      shift=np.full(CHANNELS, 22, np.int64)),
        padding=Padding(top=1, left=1, bottom=1, right=1),
    )
    return Graph(name="single_layer", inputs=(Tensor(name="input", shape=shape),), nodes=(layer,),
                 outputs=("output",))


def run_single_layer(machine: RtlMachine) -> SingleLayer:
    """Compile the layer for `machine`, run it there with TIMING and compare the result."""
    graph, config = layer_graph(), machine.config
    image = np.random.default_rng(SEED).integers(-128, 128, (1, CHANNELS, SIZE, SIZE), np.int8)
    program = compile_graph(graph, config)
    before = machine.core.timing
    machine.core.set_timing(TIMING)
    run = machine.run(program, [image[0]])
    machine.core.set_timing(before)
    expected = evaluate(graph, image, multiplier_bits=config.multiplier_bits)
    found = {"output": run.outputs[0][np.newaxis]}
    return SingleLayer(
        layer=f"{CHANNELS}->{CHANNELS} {KERNEL}x{KERNEL} {SIZE}x{SIZE}",
        bytes_per_cycle=TIMING.bytes_per_cycle, latency=TIMING.latency, macs=program.macs,
        cycles=run.cycles, array_use=program.macs / (config.peak_macs_per_cycle * run.cycles),
        kilocycles_per_cpu_second=run.simulated_cycles / run.cpu_seconds / 1e3,
        equal=compare(RTL, expected, found, ("output",)).equal,
    )
