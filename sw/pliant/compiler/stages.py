"""Which layers are candidates for running at the same time: one unit's work beside another's.

A stage is a window of the post unit, the pointwise convolution behind it if there is one, and a
convolution that depends on neither. The first two are computed part by part (the tensor between
them stays on chip); the matrix unit does the third while the post unit is busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pliant.compiler.graph import Graph
from pliant.compiler.operation import Operation, Reduction, consumers, operations


def order_companions(graph: Graph) -> Graph:
    """Move convolutions forward, right behind layers of the post unit that they can run beside.

    The first one that reads nothing of them, nor of what comes later, is taken; one that has a
    window of the post unit in front of it as its only input stays there.
    """
    layers = list(operations(graph))
    reads = consumers(graph)
    produced = {tensor.name for tensor in graph.inputs}
    index = 0
    while index < len(layers):
        length = _chain(layers, index, reads)
        if layers[index].reduction is not Reduction.CONVOLUTION:
            stop = index + length
            for later in range(stop, len(layers)):
                candidate = layers[later]
                if (set(candidate.inputs) <= produced
                        and _companion(candidate, layers[index:stop])
                        and not _behind_window(layers, later, reads)):
                    layers.insert(stop, layers.pop(later))
                    length += 1
                    break
        produced |= {layer.output.name for layer in layers[index:index + length]}
        index += length
    return graph.replace(nodes=tuple(layers))


def form_stages(
    layers: Sequence[Operation], reads: Mapping[str, int]
) -> list[tuple[int, ...]]:
    """Return the indices of layers in order, those together that may overlap.

    `reads` says how often each tensor is read.
    """
    stages: list[tuple[int, ...]] = []
    index = 0
    while index < len(layers):
        stop = index + _chain(layers, index, reads)
        made = {layer.output.name for layer in layers[index:stop]}
        if (layers[index].reduction is not Reduction.CONVOLUTION and stop < len(layers)
                and not made & set(layers[stop].inputs)
                and _companion(layers[stop], layers[index:stop])):
            stop += 1
        stages.append(tuple(range(index, stop)))
        index = stop
    return stages


def _chain(layers: Sequence[Operation], index: int, reads: Mapping[str, int]) -> int:
    """Return how many layers from `index` on, one or two, are computed part by part."""
    pair = layers[index:index + 2]
    return 2 if len(pair) == 2 and _overlap(*pair) and reads[pair[0].output.name] == 1 else 1


def _behind_window(layers: Sequence[Operation], index: int, reads: Mapping[str, int]) -> bool:
    return index > 0 and _chain(layers, index - 1, reads) == 2


def _companion(layer: Operation, others: Sequence[Operation]) -> bool:
    """Whether the matrix unit computes `layer`, and at most one of all uses the table."""
    tables = sum(other.table is not None for other in (layer, *others))
    return layer.reduction is Reduction.CONVOLUTION and tables <= 1


def _overlap(first: Operation, second: Operation) -> bool:
    """Whether `second` needs the matrix unit and of `first` just one pixel for each of its own."""
    window = second.window
    padding = window.padding
    pointwise = (window.kernel == (1, 1) and window.stride == (1, 1)
                 and not any((padding.top, padding.left, padding.bottom, padding.right)))
    return (first.reduction is not Reduction.CONVOLUTION and first.phased == first.upsample
            and second.reduction is Reduction.CONVOLUTION
            and pointwise and second.windows == (first.output.name,) and second.sampling is None
            and (first.table is None or second.table is None))
