"""Layers at the limits of instruction fields compile to the right integers, or are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pliant.compiler import compile_graph
from pliant.compiler.errors import CompileError
from pliant.compiler.graph import (
    AveragePool,
    Clip,
    Convolution,
    Graph,
    MaxPool,
    Node,
    Padding,
    Requantization,
    Tensor,
    Upsample,
)
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant_sim.simulator import InstructionSimulator


def check(name: str, source: Tensor, *nodes: Node) -> None:
    """Compare the simulator with the reference."""
    graph = Graph(name="net", inputs=(source,), nodes=nodes, outputs=(nodes[-1].output.name,))
    value = np.random.default_rng(0).integers(-128, 128, (1, *source.shape)).astype(np.int8)
    config = preset(name)
    found = InstructionSimulator(config).run(compile_graph(graph, config), [value]).outputs[0]
    expected = evaluate(graph, value)[graph.outputs[0]]
    np.testing.assert_array_equal(found, expected)


def convolution(source: Tensor, kernel: tuple[int, int] = (1, 1), **sides: int) -> Convolution:
    pad = Padding(**sides)
    channels, height, width = source.shape
    shape = (3, height + pad.top + pad.bottom - kernel[0] + 1,
             width + pad.left + pad.right - kernel[1] + 1)
    weight = np.random.default_rng(1).integers(-127, 128, (3, channels, *kernel)).astype(np.int8)
    return Convolution(
        name=f"{source.name}.conv", inputs=(source.name,), output=Tensor(
            name=f"{source.name}.conv", shape=shape), weight=weight, padding=pad,
        bias=np.arange(3, dtype=np.int32), requantization=Requantization(
            multiplier=np.full(3, 200), shift=np.full(3, 15)))


def sizes(long: int) -> list[tuple[int, int, int]]:
    return [(2, 1, long), (2, long, 1)]


@pytest.mark.parametrize("name", ["pynq_z2", "ultra96"])
@pytest.mark.parametrize("shape", [*sizes(1500), *sizes(2047), *sizes(2050)])
def test_upsampling_of_long_images(name: str, shape: tuple[int, int, int]) -> None:
    x = Tensor(name="x", shape=shape, zero_point=4)
    conv = convolution(x)
    for source in (x, conv.output):
        up = Upsample(name="up", inputs=(source.name,), output=Tensor(
            name="up", shape=(source.shape[0], 2 * source.shape[1], 2 * source.shape[2])))
        check(name, x, *([conv] if source is not x else []), up)


@pytest.mark.parametrize("name", ["pynq_z2", "ultra96"])
@pytest.mark.parametrize("shape", sizes(1900))
def test_results_that_padding_makes_longer_than_the_fields(
    name: str, shape: tuple[int, int, int]
) -> None:
    x = Tensor(name="x", shape=shape, zero_point=4)
    side = "right" if shape[1] == 1 else "bottom"
    pool = MaxPool(name="pool", inputs=("x",), kernel=(1, 1), stride=(1, 1), padding=Padding(
        **{side: 700}), output=Tensor(name="pool", zero_point=4, shape=tuple(  # type: ignore[arg-type]
            size + 700 * (size == 1900) for size in shape)))
    check(name, x, pool)
    kept = convolution(x)  # fits on chip, and windows begin far behind it
    check(name, x, kept, convolution(kept.output, (1, 1), **{side: 700}))


@pytest.mark.parametrize("name", ["tiny", "pynq_z2", "ultra96"])
@pytest.mark.parametrize("sides", [(20, 20), (20, 3), (1, 40)])
def test_windows_as_large_as_the_tensor_may_have_any_stride(
    name: str, sides: tuple[int, int]
) -> None:
    x = Tensor(name="x", shape=(3, *sides), zero_point=-5)
    conv = convolution(x, sides)
    pool = MaxPool(name="pool", inputs=("x",), output=Tensor(
        name="pool", shape=(3, 1, 1), zero_point=-5), kernel=sides, stride=sides)
    mean = AveragePool(name="mean", inputs=("x",), output=Tensor(name="mean", shape=(3, 1, 1)),
                       kernel=sides, stride=sides, requantization=conv.requantization)
    for node in (dataclasses.replace(conv, stride=sides), pool, mean):
        check(name, x, node)


@pytest.mark.parametrize("stride", [2, 16, 300])
def test_one_pixel_of_many_is_not_taken_for_all(stride: int) -> None:
    x = Tensor(name="x", shape=(3, 2, 2))
    deep = convolution(x, (2, 2), top=1, left=1)
    one = Requantization(multiplier=np.ones(3, np.int64), shift=np.zeros(3, np.int64))
    first = AveragePool(name="first", inputs=(deep.output.name,), output=Tensor(
        name="first", shape=(3, 1, 1)), kernel=(1, 1), stride=(stride, stride), requantization=one)
    clipped = Clip(name="clip", inputs=("first",), output=Tensor(name="clip", shape=(3, 1, 1)),
                   clip_min=-5, clip_max=90)
    check("tiny", x, deep, first, clipped)
    behind = convolution(deep.output)
    check("tiny", x, deep, dataclasses.replace(
        behind, stride=(stride, stride), output=dataclasses.replace(
            behind.output, shape=(3, 1, 1))))


@pytest.mark.parametrize("name", ["tiny", "pynq_z2", "ultra96"])
@pytest.mark.parametrize(("side", "most"), [("left", 2048), ("right", 2046), ("top", 2048),
                                            ("bottom", 2046)])
def test_the_widest_padding(name: str, side: str, most: int) -> None:
    x = Tensor(name="x", shape=(1, 2, 2), zero_point=-5)
    check(name, x, convolution(x, **{side: most}))
    with pytest.raises(CompileError, match=rf"'x.conv': padding is {most + 1}, allowed is 0 to "):
        check(name, x, convolution(x, **{side: most + 1}))
