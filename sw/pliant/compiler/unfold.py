"""Packs the first layer: kernel positions into the lanes, where that takes fewer cycles."""

from __future__ import annotations

import dataclasses
import math

from pliant.compiler.cycles import bandwidth
from pliant.compiler.graph import Graph, Tensor
from pliant.compiler.operation import Operation, Reduction, Window, consumers, operations
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div, feature_tensor_bytes
from pliant.spec.unfolding import Unfolding

MOST_BYTES = 3
"""An unfolded input takes at most so many times the bytes of the plain one."""


def unfold_inputs(graph: Graph, config: AcceleratorConfig) -> Graph:
    """Unfold inputs that one convolution reads, see :mod:`pliant.spec.unfolding`.

    The convolution's kernel becomes one column wide, its input channels kernel column x channel, or
    it becomes pointwise, its input channels kernel row x kernel column x channel. On 16 rows a 3x3
    kernel on 3 channels then takes 3 or 2 passes instead of 9, a 7x7 kernel 14 or 10 instead of 49.
    """
    reads = consumers(graph)
    sources = {tensor.name: tensor for tensor in graph.inputs}
    unfolded: dict[str, Tensor] = {}
    nodes = []
    for node in operations(graph):
        source = sources.get(node.inputs[0])
        kept = None
        if (source is not None and node.windows == (source.name,) and reads[source.name] == 1
                and node.reduction is Reduction.CONVOLUTION and node.sampling is None):
            kept = _choose(node, source, config)
        if source is None or kept is None:
            nodes.append(node)
            continue
        unfolding = _unfolding(node, source, kept)
        unfolded[source.name] = dataclasses.replace(
            source, shape=unfolding.unfolded_shape, unfolding=unfolding)
        nodes.append(_narrow(node, kept))
    inputs = tuple(unfolded.get(tensor.name, tensor) for tensor in graph.inputs)
    return graph.replace(inputs=inputs, nodes=tuple(nodes))


def _choose(node: Operation, source: Tensor, config: AcceleratorConfig) -> int | None:
    """Return how many axes are best kept as they are: columns are unfolded, or rows as well.

    None if both are to be kept. Of equally fast forms, the one with the fewest bytes is best.
    """
    plain = _bytes(source.shape, config)
    best = None
    least = _cycles(node, source.shape, 2, config), plain
    for kept in (1, 0):
        shape = _unfolding(node, source, kept).unfolded_shape
        cost = _cycles(node, shape, kept, config), _bytes(shape, config)
        if cost < least and cost[1] <= MOST_BYTES * plain:
            best, least = kept, cost
    return best


def _bytes(shape: tuple[int, int, int], config: AcceleratorConfig) -> int:
    channels, height, width = shape
    return feature_tensor_bytes(config, height, width, channels)


def _cycles(
    node: Operation, shape: tuple[int, int, int], kept: int, config: AcceleratorConfig
) -> float:
    """Return the cycles of the array or, if it takes longer, of the memory."""
    height, width = _windows(node)
    taps = math.prod(node.window.kernel[:kept])
    tiles = ceil_div(node.output.shape[0], config.cols)
    matrix = tiles * ceil_div(shape[0], config.rows) * taps * height * width
    return max(matrix, (_bytes(shape, config) + _bytes(node.output.shape, config))
               / bandwidth(config))


def _windows(node: Operation) -> tuple[int, int]:
    """Return the windows in a column and in a row."""
    zoom = 2 if node.upsample else 1
    return node.output.shape[1] // zoom, node.output.shape[2] // zoom


def _unfolding(node: Operation, source: Tensor, kept: int) -> Unfolding:
    """Return how to unfold all axes but the first `kept`."""
    window = node.window

    def pair(values: tuple[int, int], neutral: int) -> tuple[int, int]:
        return neutral if kept else values[0], values[1]

    return Unfolding(
        shape=source.shape, kernel=pair(window.kernel, 1), stride=pair(window.stride, 1),
        dilation=pair(window.dilation, 1),
        before=pair((window.padding.top, window.padding.left), 0),
        size=pair(_windows(node), source.shape[1]), fill=window.pad_value)


def _narrow(node: Operation, kept: int) -> Operation:
    """Return the convolution of the unfolded input."""
    window, weight = node.window, node.weight
    assert weight is not None
    out, _, height, _ = weight.shape
    if not kept:
        inner = weight.transpose(0, 2, 3, 1).reshape(out, -1, 1, 1)
        return dataclasses.replace(node, weight=inner, window=Window(pad_value=window.pad_value))
    return dataclasses.replace(
        node,
        window=dataclasses.replace(
            window, kernel=(height, 1), stride=(window.stride[0], 1),
            dilation=(window.dilation[0], 1),
            padding=dataclasses.replace(window.padding, left=0, right=0)),
        weight=weight.transpose(0, 3, 1, 2).reshape(out, -1, height, 1))
