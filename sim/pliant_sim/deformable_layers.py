"""What displaced taps cost: deformable layers beside plain ones of the same shape, on the RTL.

Run as a module: ``python -m pliant_sim.deformable_layers ultra96``. Offsets are random over their
whole range; cycles depend on them by a few bank conflicts alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from pliant.compiler import compile_graph
from pliant.compiler.graph import (
    Convolution,
    DeformableConvolution,
    DepthwiseConvolution,
    Graph,
    Node,
    Padding,
    Requantization,
    Tensor,
)
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant.spec.numerics import WEIGHT_MAX
from pliant.spec.sampling import MASK_ONE, Offsets, Sampling
from pliant_sim.comparison import RTL, compare
from pliant_sim.rtl import MemoryTiming, RtlMachine

SEED = 1
KERNEL = (3, 3)


@dataclass(frozen=True)
class Shape:
    """A 3x3 convolution of a square image, with as many output as input channels."""

    channels: int
    size: int
    depthwise: bool = False

    def __str__(self) -> str:
        kind = "depthwise" if self.depthwise else "dense"
        return f"{kind} {self.channels} channels, {self.size}x{self.size}"


SHAPES = (Shape(256, 64), Shape(256, 64, depthwise=True))

SAMPLINGS: dict[str, Sampling | None] = {
    "plain": None,
    "one scale per pixel": Sampling(offsets=Offsets.SCALED),
    "offsets per tap": Sampling(offsets=Offsets.PER_TAP),
    "offsets and masks": Sampling(offsets=Offsets.MODULATED),
    "offsets per tap, within 2 pixels": Sampling(offsets=Offsets.PER_TAP, minimum=-32, maximum=32),
    "one scale per pixel, rounded": Sampling(offsets=Offsets.SCALED, interpolate=False),
    "offsets per tap, rounded": Sampling(offsets=Offsets.PER_TAP, interpolate=False),
}
"""Offsets are within 8 pixels unless it says otherwise, and samples interpolated."""


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """A layer on the RTL: cycles with the board's memory, and whether the result is exact."""

    cycles: int
    equal: bool


def layer_graph(shape: Shape, sampling: Sampling | None) -> Graph:
    """Return the convolution with random weights; offsets and masks are inputs of the graph."""
    random = np.random.default_rng(SEED)
    channels, size = shape.channels, shape.size
    groups = channels if shape.depthwise else 1
    weight = random.integers(
        -WEIGHT_MAX, WEIGHT_MAX + 1, (channels, channels // groups, *KERNEL)).astype(np.int8)
    taps = KERNEL[0] * KERNEL[1] * channels // groups
    inputs = [Tensor(name="input", shape=(channels, size, size))]
    output = Tensor(name="output", shape=(channels, size, size))
    bias = random.integers(-1000, 1000, channels).astype(np.int32)
    requantization = Requantization(
        multiplier=random.integers(128, 256, channels),
        shift=np.full(channels, 14 + (taps.bit_length() + 1) // 2, np.int64))
    padding = Padding(top=1, left=1, bottom=1, right=1)
    node: Node
    if sampling is not None:
        inputs.append(Tensor(name="offsets", shape=(sampling.offset_channels(KERNEL), size, size),
                             scale=2.0**-sampling.fraction_bits))
        if sampling.offsets is Offsets.MODULATED:
            inputs.append(Tensor(name="masks", shape=(sampling.mask_channels(KERNEL), size, size),
                                 scale=1 / MASK_ONE, zero_point=-MASK_ONE))
        node = DeformableConvolution(
            name="layer", inputs=tuple(tensor.name for tensor in inputs), output=output,
            weight=weight, bias=bias, requantization=requantization, sampling=sampling,
            groups=groups, padding=padding)
    elif shape.depthwise:
        node = DepthwiseConvolution(
            name="layer", inputs=("input",), output=output, weight=weight[:, 0], bias=bias,
            requantization=requantization, padding=padding)
    else:
        node = Convolution(
            name="layer", inputs=("input",), output=output, weight=weight, bias=bias,
            requantization=requantization, padding=padding)
    return Graph(name="layer", inputs=tuple(inputs), nodes=(node,), outputs=("output",))


def run_layer(machine: RtlMachine, shape: Shape, sampling: Sampling | None) -> LayerRun:
    """Compile a layer for `machine`, run it there and compare the result."""
    graph, config = layer_graph(shape, sampling), machine.config
    random = np.random.default_rng(SEED)
    values = {tensor.name: random.integers(-128, 128, (1, *tensor.shape), np.int8)
              for tensor in graph.inputs}
    run = machine.run(compile_graph(graph, config),
                      [values[tensor.name][0] for tensor in graph.inputs])
    expected = evaluate(graph, values, multiplier_bits=config.multiplier_bits)
    found = {"output": run.outputs[0][np.newaxis]}
    return LayerRun(cycles=run.cycles, equal=compare(RTL, expected, found, ("output",)).equal)


def main(config_name: str) -> None:
    """Print cycles, and their ratio to those of the plain layer, with the memory of the board."""
    machine = RtlMachine(preset(config_name))
    machine.core.set_timing(MemoryTiming.of_board(machine.config))
    for shape in SHAPES:
        plain = 0
        for name, sampling in SAMPLINGS.items():
            run = run_layer(machine, shape, sampling)
            plain = plain or run.cycles
            exact = "exact" if run.equal else "WRONG"
            print(f"{shape!s:36} {name:34} {run.cycles:9,} cycles  "
                  f"{run.cycles / plain:6.3f} {exact}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
