"""Moves nearest upsampling behind the pointwise convolutions that read it: a quarter of the work.

Both orders give the same integers, pixel for pixel, and the post unit upsamples for free. Where
others read the upsampled tensor as well, convolutions read every other row and column of that one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from pliant.compiler.graph import Convolution, Graph, Node, Padding, Tensor, Upsample


def delay_upsampling(graph: Graph) -> Graph:
    """Return the graph with every Upsample behind the pointwise convolutions that read it.

    It also stays in front of them if anything else reads it.
    """
    nodes = list(graph.nodes)
    for node in graph.nodes:
        if not isinstance(node, Upsample):
            continue
        readers = [reader for reader in nodes if node.output.name in reader.inputs]
        moved = [reader for reader in readers
                 if isinstance(reader, Convolution) and _pointwise(reader)]
        alone = len(moved) == len(readers) and node.output.name not in graph.outputs
        if alone and readers:
            nodes.remove(node)
        taken = set(graph.tensors())
        for reader in moved:
            place = nodes.index(reader)
            nodes[place:place + 1] = _swapped(
                reader if alone else dataclasses.replace(reader, stride=(2, 2)),
                node.inputs[0] if alone else node.output.name, taken)
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
    """Return the convolution, of `source`, and the upsampling of its result."""
    small = halved(node.output, taken)
    taken.add(small.name)
    return (dataclasses.replace(node, inputs=(source,), output=small),
            Upsample(name=f"{node.name}.upsample", inputs=(small.name,), output=node.output))
