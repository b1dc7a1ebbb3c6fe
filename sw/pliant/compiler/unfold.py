"""Packs the first layer: kernel columns into the lanes, where that takes fewer passes."""

from __future__ import annotations

import dataclasses

from pliant.compiler.graph import Graph, Tensor
from pliant.compiler.operation import Operation, Reduction, consumers, operations
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div, feature_tensor_bytes
from pliant.spec.unfolding import Unfolding

MOST_BYTES = 2
"""An unfolded input takes at most so many times the bytes of the plain one."""


def unfold_inputs(graph: Graph, config: AcceleratorConfig) -> Graph:
    """Unfold inputs that one convolution reads, see :mod:`pliant.spec.unfolding`.

    The convolution's kernel becomes one column wide, its input channels kernel column x channel. A
    3x3 kernel on 3 channels then takes 3 passes instead of 9, a 7x7 kernel 14 instead of 49 on
    16 rows.
    """
    reads = consumers(graph)
    sources = {tensor.name: tensor for tensor in graph.inputs}
    unfolded: dict[str, Tensor] = {}
    nodes = []
    for node in operations(graph):
        source = sources.get(node.inputs[0])
        if (source is not None and node.windows == (source.name,) and reads[source.name] == 1
                and _pays(node, source, config)):
            unfolded[source.name] = _unfold(node, source)
            nodes.append(_narrow(node))
        else:
            nodes.append(node)
    inputs = tuple(unfolded.get(tensor.name, tensor) for tensor in graph.inputs)
    return graph.replace(inputs=inputs, nodes=tuple(nodes))


def _pays(node: Operation, source: Tensor, config: AcceleratorConfig) -> bool:
    if (node.reduction is not Reduction.CONVOLUTION or node.sampling is not None
            or node.window.kernel[1] == 1):
        return False
    channels, height, width = source.shape
    kernel = node.window.kernel[1]
    columns = node.output.shape[2]
    if ceil_div(channels * kernel, config.rows) >= ceil_div(channels, config.rows) * kernel:
        return False
    plain = feature_tensor_bytes(config, height, width, channels)
    packed = feature_tensor_bytes(config, height, columns, channels * kernel)
    return packed <= MOST_BYTES * plain


def _unfold(node: Operation, source: Tensor) -> Tensor:
    window = node.window
    unfolding = Unfolding(
        shape=source.shape, kernel=window.kernel[1], stride=window.stride[1],
        dilation=window.dilation[1], left=window.padding.left, columns=node.output.shape[2],
        fill=window.pad_value)
    return dataclasses.replace(source, shape=unfolding.unfolded_shape, unfolding=unfolding)


def _narrow(node: Operation) -> Operation:
    window, weight = node.window, node.weight
    assert weight is not None
    out, channels, height, width = weight.shape
    return dataclasses.replace(
        node,
        window=dataclasses.replace(
            window, kernel=(height, 1), stride=(window.stride[0], 1),
            dilation=(window.dilation[0], 1),
            padding=dataclasses.replace(window.padding, left=0, right=0)),
        weight=weight.transpose(0, 3, 1, 2).reshape(out, width * channels, height, 1))
