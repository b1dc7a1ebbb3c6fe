"""How well one layer uses the array, from RTL cycles with a stated memory.

Run as a module, it compares a layer with weights of 8 and of 4 bits; sizes are given as input and
output channels, kernel and image, such as ``464x1024x1x8``::

    python -m pliant_sim.single_layer ultra96 464x1024x1x8 4096x1000x1x1
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from pliant.compiler import compile_graph
from pliant.compiler.graph import Convolution, Graph, Padding, Requantization, Tensor
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant.spec.isa import Load, Target
from pliant.spec.numerics import NARROW_WEIGHT_MAX, WEIGHT_MAX
from pliant.spec.program import Program
from pliant_sim.comparison import RTL, compare
from pliant_sim.rtl import MemoryTiming, RtlMachine

SEED = 1
TIMING = MemoryTiming(latency=60, bytes_per_cycle=16)
"""Memory that the layer of the demo is timed with: 16 bytes per cycle, 60 cycles latency."""


@dataclass(frozen=True)
class LayerSize:
    """A convolution of a square image with a square kernel and as many outputs as inputs."""

    inputs: int
    outputs: int
    kernel: int
    size: int
    weight_bits: int = 8

    def __str__(self) -> str:
        kernel, size = f"{self.kernel}x{self.kernel}", f"{self.size}x{self.size}"
        bits = "" if self.weight_bits == 8 else f" int{self.weight_bits}"
        return f"{self.inputs}->{self.outputs} {kernel} {size}{bits}"


DEMO = LayerSize(64, 64, 3, 28)


@dataclass(frozen=True, kw_only=True)
class SingleLayer:
    """How one convolution ran on the RTL.

    `macs` are the useful multiply-accumulates (kernel taps on padding do not count), `array_use`
    their share of what a full array does in `cycles`, `weight_bytes` what is loaded as weights,
    `equal` whether the result is that of the integer graph.
    """

    layer: str
    bytes_per_cycle: float
    latency: int
    macs: int
    cycles: int
    array_use: float
    weight_bytes: int
    kilocycles_per_cpu_second: float
    equal: bool


def layer_graph(layer: LayerSize = DEMO) -> Graph:
    """Return the convolution with random weights of all values that its bits allow."""
    random = np.random.default_rng(SEED)
    largest = {8: WEIGHT_MAX, 4: NARROW_WEIGHT_MAX}[layer.weight_bits]
    kernel, outputs = layer.kernel, layer.outputs
    weight = random.integers(-largest, largest + 1, (outputs, layer.inputs, kernel, kernel))
    before, after = (kernel - 1) // 2, kernel // 2
    node = Convolution(
        name="convolution", inputs=("input",),
        output=Tensor(name="output", shape=(outputs, layer.size, layer.size)),
        weight=weight.astype(np.int8), bias=random.integers(-1000, 1000, outputs).astype(np.int32),
        requantization=Requantization(multiplier=random.integers(128, 256, outputs),
                                      shift=np.full(outputs, 22 if largest == WEIGHT_MAX else 18)),
        padding=Padding(top=before, left=before, bottom=after, right=after),
    )
    source = Tensor(name="input", shape=(layer.inputs, layer.size, layer.size))
    return Graph(name="single_layer", inputs=(source,), nodes=(node,), outputs=("output",))


def run_single_layer(
    machine: RtlMachine, layer: LayerSize = DEMO, timing: MemoryTiming = TIMING
) -> SingleLayer:
    """Compile the layer for `machine`, run it there with `timing` and compare the result."""
    graph, config = layer_graph(layer), machine.config
    image = np.random.default_rng(SEED).integers(-128, 128, (1, *graph.inputs[0].shape), np.int8)
    program = compile_graph(graph, config)
    before = machine.core.timing
    machine.core.set_timing(timing)
    run = machine.run(program, [image[0]])
    machine.core.set_timing(before)
    expected = evaluate(graph, image, multiplier_bits=config.multiplier_bits)
    found = {"output": run.outputs[0][np.newaxis]}
    return SingleLayer(
        layer=str(layer), bytes_per_cycle=timing.bytes_per_cycle, latency=timing.latency,
        macs=program.macs, cycles=run.cycles,
        array_use=program.macs / (config.peak_macs_per_cycle * run.cycles),
        weight_bytes=weight_bytes(program, config.axi_data_bytes),
        kilocycles_per_cpu_second=run.simulated_cycles / run.cpu_seconds / 1e3,
        equal=compare(RTL, expected, found, ("output",)).equal,
    )


def weight_bytes(program: Program, beat_bytes: int) -> int:
    """Return the bytes that a program loads as weights, those loaded again counted again."""
    return sum(load.run_beats * load.runs * load.blocks * beat_bytes for load in program.decoded()
               if isinstance(load, Load) and load.target == Target.WEIGHT)


def main(config_name: str, *sizes: str) -> None:
    """Print how layers run with weights of 8 and of 4 bits and the memory of the board."""
    machine = RtlMachine(preset(config_name))
    timing = MemoryTiming.of_board(machine.config)
    for size in sizes:
        inputs, outputs, kernel, image = (int(number) for number in size.split("x"))
        for bits in (8, 4):
            layer = LayerSize(inputs, outputs, kernel, image, bits)
            found = run_single_layer(machine, layer, timing)
            print(f"{found.layer}: {found.cycles} cycles, {found.weight_bytes} bytes of weights, "
                  f"{found.array_use:.1%} of the array, equal {found.equal}")


if __name__ == "__main__":
    main(*sys.argv[1:])
