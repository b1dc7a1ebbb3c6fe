"""Each pass by itself keeps the integers, and fuses exactly where that is possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler import draw_graph, format_graph, optimize
from pliant.compiler.fuse import fuse_add, fuse_clip, fuse_lookup
from pliant.compiler.graph import Convolution, DepthwiseConvolution, Graph, Requantization
from pliant.compiler.lower import lower
from pliant.compiler.operation import Operation, Reduction, operations
from pliant.compiler.reference import evaluate
from pliant.spec import numerics
from pliant.spec.config import preset
from pliant.spec.numerics import Rounding
from pliant_models.random_layers import random_inputs, random_layer

TINY = preset("tiny")


def evaluate_operations(graph: Graph, inputs: dict[str, Any]) -> dict[str, NDArray[np.int8]]:
    """Evaluate a lowered graph of one image, window by window, as an Operation is described."""
    unfoldings = {tensor.name: tensor.unfolding for tensor in graph.inputs}
    values = {name: value if (unfolding := unfoldings[name]) is None else unfolding.apply(value)
              for name, value in inputs.items()}
    for operation in operations(graph):
        source = np.concatenate([values[name] for name in operation.windows]).astype(np.int64)
        if operation.reduction is not Reduction.CONVOLUTION:
            source = source[operation.first_group * TINY.lanes:][:operation.output.shape[0]]
        window, pad = operation.window, operation.window.padding
        padded = np.pad(source, ((0, 0), (pad.top, pad.bottom), (pad.left, pad.right)),
                        constant_values=window.pad_value)
        zoom = 2 if operation.upsample else 1
        channels, height, width = operation.output.shape
        sums = np.zeros((channels, height // zoom, width // zoom), np.int64)
        for y, x in np.ndindex(*sums.shape[1:]):
            top, left = y * window.stride[0], x * window.stride[1]
            part = padded[:, top:top + (window.kernel[0] - 1) * window.dilation[0] + 1:
                          window.dilation[0],
                          left:left + (window.kernel[1] - 1) * window.dilation[1] + 1:
                          window.dilation[1]]
            if operation.reduction is Reduction.DEPTHWISE:
                assert operation.weight is not None
                sums[:, y, x] = (operation.weight.astype(np.int64) * part).sum(axis=(1, 2))
            elif operation.weight is not None:
                sums[:, y, x] = (operation.weight.astype(np.int64) * part).sum(axis=(1, 2, 3))
            elif operation.reduction is Reduction.MAXIMUM:
                sums[:, y, x] = part.max(axis=(1, 2))
            else:
                sums[:, y, x] = part.sum(axis=(1, 2))
        result = _post(operation, sums, values)
        values[operation.output.name] = result.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return values


def _post(
    operation: Operation, sums: NDArray[np.int64], values: dict[str, NDArray[np.int8]]
) -> NDArray[np.int8]:
    r = operation.requantization
    result = numerics.requantize(
        sums + operation.bias[:, None, None], r.multiplier[:, None, None],
        r.shift[:, None, None], rounding=r.rounding, multiplier_bits=TINY.multiplier_bits,
        zero_point=r.zero_point, clip_min=r.clip_min, clip_max=r.clip_max)
    add = operation.residual
    if add is not None:
        assert add.rounding is r.rounding, "one field of the instruction"
        result = numerics.add(
            result, values[operation.inputs[-1]], multiplier_first=add.multiplier,
            multiplier_second=add.residual_multiplier, offset=add.offset, shift=add.shift,
            rounding=add.rounding, zero_point=add.zero_point, clip_min=add.clip_min,
            clip_max=add.clip_max)
    return result if operation.table is None else operation.table[result.view(np.uint8)]


@pytest.mark.parametrize("passes", [
    (), (fuse_clip,), (fuse_add,), (fuse_lookup,), (fuse_clip, fuse_add, fuse_lookup),
    (fuse_lookup, fuse_add, fuse_clip, fuse_lookup),
])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_passes_keep_every_remaining_tensor(
    network: Callable[..., Graph], passes: tuple[Callable[[Graph], Graph], ...],
    rounding: Rounding,
) -> None:
    graph = network(1, 31, channels=5, size=6, rounding=rounding)
    inputs = random_inputs(graph, 1)
    lowered = lower(graph, TINY)
    for fuse in passes:
        lowered = fuse(lowered)
    assert (len(lowered.nodes) < len(graph.nodes)) == bool(passes)
    values = evaluate_operations(lowered, {"x": inputs["x"][0]})
    expected = evaluate(graph, inputs)
    for name, value in values.items():
        assert np.array_equal(value, expected[name][0]), name


def test_random_layers_keep_their_integers() -> None:
    for seed in range(60):
        graph = random_layer(seed, multiplier_bits=31, max_size=6, max_channels=5)
        inputs = random_inputs(graph, seed)
        values = evaluate_operations(optimize(graph, TINY),
                                     {name: value[0] for name, value in inputs.items()})
        output = graph.outputs[0]
        assert np.array_equal(values[output], evaluate(graph, inputs)[output][0]), graph.name


def test_depthwise_networks_keep_their_integers(inverted: Callable[..., Graph]) -> None:
    graph = inverted(2, 31, channels=3, size=6)
    inputs = random_inputs(graph, 2)
    values = evaluate_operations(optimize(graph, TINY), {"x": inputs["x"][0]})
    expected = evaluate(graph, inputs)
    for name, value in values.items():
        assert np.array_equal(value, expected[name][0]), name


def test_a_depthwise_convolution_that_scales_alone_is_no_clip(
    builder: Callable[..., Any]
) -> None:
    net = builder(0, (4, 6, 6), 31)
    deep = net.depthwise(net.convolution(net.input, 4), kernel=1)
    conv, scale = net.graph(deep).nodes
    assert isinstance(scale, DepthwiseConvolution)
    zero = dataclasses.replace(
        scale, weight=np.full((4, 1, 1), 3, np.int8), bias=np.zeros(4, np.int32),
        output=dataclasses.replace(scale.output, zero_point=0),
        requantization=Requantization(multiplier=np.ones(4, np.int64),
                                      shift=np.zeros(4, np.int64)))
    source = dataclasses.replace(conv.output, zero_point=0)
    conv = dataclasses.replace(conv, output=source, requantization=dataclasses.replace(
        conv.requantization, zero_point=0))  # type: ignore[call-arg,attr-defined]
    graph = net.graph(deep).replace(nodes=(conv, zero))
    assert layers(graph) == [("conv0",), ("depthwise1",)]


def layers(graph: Graph) -> list[tuple[str, ...]]:
    return [operation.layers for operation in operations(optimize(graph, TINY))]


def test_an_addition_joins_the_later_of_its_producers(builder: Callable[..., Any]) -> None:
    net = builder(0, (4, 6, 6), 31)
    first, second = net.convolution(net.input, 4), net.convolution(net.input, 4)
    assert layers(net.graph(net.add(first, second))) == [("conv0",), ("conv1", "add2")]


def test_a_tensor_that_is_read_twice_or_is_an_output_stays(builder: Callable[..., Any]) -> None:
    net = builder(0, (4, 6, 6), 31)
    conv = net.convolution(net.input, 4)
    relu = net.relu(conv)
    assert layers(net.graph(relu, conv)) == [("conv0",), ("relu1",)]
    both = net.add(relu, relu)
    assert layers(net.graph(both)) == [("conv0", "relu1"), ("add2",)]


def test_an_addition_that_rounds_otherwise_stays(builder: Callable[..., Any]) -> None:
    net = builder(0, (4, 6, 6), 31)
    conv = net.convolution(net.input, 4, rounding=Rounding.HALF_UP)
    added = net.add(conv, net.input, Rounding.HALF_EVEN)
    assert layers(net.graph(added)) == [("conv0",), ("add1",)]


def test_nothing_follows_a_table_but_tables_and_clips(builder: Callable[..., Any]) -> None:
    net = builder(0, (4, 6, 6), 31)
    conv = net.lookup(net.relu(net.lookup(net.convolution(net.input, 4))))
    assert layers(net.graph(conv)) == [("conv0", "lookup1", "relu2", "lookup3")]
    added = net.add(conv, net.input)
    assert layers(net.graph(added))[-1] == ("add4",)


def test_upsampling_joins_any_producer_and_lets_pointwise_layers_through(
    builder: Callable[..., Any]
) -> None:
    net = builder(0, (4, 6, 6), 31)
    added = net.add(net.convolution(net.input, 4), net.input)
    value = net.lookup(net.relu(net.upsample(net.relu(added))))
    graph = net.graph(value, net.upsample(net.max_pool(value)))
    assert layers(graph) == [("conv0", "add1", "relu2", "upsample3", "relu4", "lookup5"),
                             ("pool6", "upsample7")]
    inputs = random_inputs(graph, 0)
    values = evaluate_operations(optimize(graph, TINY), {"x": inputs["x"][0]})
    expected = evaluate(graph, inputs)
    for name in graph.outputs:
        assert np.array_equal(values[name], expected[name][0]), name


def test_nothing_is_added_behind_upsampling_nor_upsampled_twice_at_once(
    builder: Callable[..., Any]
) -> None:
    net = builder(0, (4, 6, 6), 31)
    large = net.upsample(net.convolution(net.input, 4))
    assert layers(net.graph(net.add(large, large))) == [("conv0", "upsample1"), ("add2",)]
    net = builder(0, (4, 6, 6), 31)
    net.upsample(net.upsample(net.convolution(net.input, 4)))
    larger = net.nodes[-1].output
    both = net.add(larger, net.upsample(net.upsample(net.input)))
    assert layers(net.graph(both)) == [
        ("conv0", "upsample1"), ("upsample2",), ("upsample3",), ("upsample4",), ("add5",)]


def test_disjoint_bounds_give_a_constant(builder: Callable[..., Any]) -> None:
    net = builder(0, (4, 6, 6), 31)
    low = net.relu(net.convolution(net.input, 4))
    graph = net.graph(low)
    conv, relu = graph.nodes
    assert isinstance(conv, Convolution)
    bounded = dataclasses.replace(
        conv, requantization=dataclasses.replace(conv.requantization, clip_max=-100))
    graph = graph.replace(nodes=(bounded, dataclasses.replace(relu, clip_min=50)))  # type: ignore
    requantization: Requantization = operations(optimize(graph, TINY))[0].requantization
    assert (requantization.clip_min, requantization.clip_max) == (50, 50)


def test_every_stage_can_be_printed_and_drawn(network: Callable[..., Graph]) -> None:
    seen: dict[str, str] = {}
    graph = network(1, 31)
    optimize(graph, TINY, stages=lambda name, stage: seen.update({
        name: format_graph(stage) + draw_graph(stage)}))
    assert list(seen) == ["graph", "lower", "fuse_upsample", "fuse_clip", "fuse_add", "fuse_lookup",
                          "split_phases", "order_companions", "unfold_inputs"]
    assert "conv0: Convolution(x) 3x3" in seen["graph"]
    assert "conv0: convolution(x) 3x3" in seen["lower"]
    assert "convolution+add+table" in seen["fuse_lookup"]
    for text in seen.values():
        assert text.count("digraph") == 1
        assert all(f'"{tensor}"' in text or tensor in text for tensor in graph.outputs)
