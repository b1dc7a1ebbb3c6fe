"""Moves nearest upsampling behind the pointwise convolutions that read it: a quarter of the work.

Both orders give the same integers, pixel for pixel, and the post unit upsamples for free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from pliant.compiler.graph import Convolution, Graph, Node, Padding, Tensor, Upsample


def delay_upsampling(graph: Graph) -> Graph:
    """Return the graph with every Upsample that pointwise convolutions alone read behind them."""
    nodes = list(graph.nodes)
    for node in graph.nodes:
        if not isinstance(node, Upsample) or node.output.name in graph.outputs:
            continue
        readers = [reader for reader in nodes if node.output.name in reader.inputs]
        if not readers or not all(isinstance(reader, Convolution) and _pointwise(reader)
                                  for reader in readers):
            continue
        nodes.remove(node)
        taken = set(graph.tensors())
        for reader in readers:
            place = nodes.index(reader)
            assert isinstance(reader, Convolution)
            nodes[place:place + 1] = _swapped(reader, node.inputs[0], taken)
    return graph.replace(nodes=tuple(nodes))


def _pointwise(node: Convolution) -> bool:
    return (node.weight.shape[2:] == (1, 1) and node.stride == (1, 1)
            and node.padding == Padding())


def halved(tensor: Tensor, taken: Container[str]) -> Tensor:
    """Return the tensor before its pixels are repeated, with a name that is not `taken`."""
    name = f"{tensor.name}.small"
    while name in taken:
        name += "'"
    channels, height, width = tensor.shape
    return dataclasses.replace(tensor, name=name, shape=(channels, height // 2, width // 2))


def _swapped(node: Convolution, source: str, taken: set[str]) -> tuple[Node, Node]:
    """Return the convolution of `source` and the upsampling of its result."""
    small = halved(node.output, taken)
    taken.add(small.name)
    return (dataclasses.replace(node, inputs=(source,), output=small),
            Upsample(name=f"{node.name}.upsample", inputs=(small.name,), output=node.output))
