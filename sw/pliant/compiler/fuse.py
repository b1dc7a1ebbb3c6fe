"""Fusing passes: merge a pointwise layer into the operation whose result it reads.

A tensor disappears only when nothing else reads it and it is no output of the graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from pliant.compiler.graph import Graph, Requantization
from pliant.compiler.operation import (
    Operation,
    Reduction,
    ResidualAdd,
    Window,
    consumers,
    operations,
)
from pliant.spec.numerics import INT8_MAX, INT8_MIN

Bounds = TypeVar("Bounds", Requantization, ResidualAdd)

Merge = Callable[[Operation, Operation, int], Operation | None]
"""(producer, consumer, which operand of the consumer the producer is) -> both in one, or None."""


def fuse_clip(graph: Graph) -> Graph:
    """Merge every Clip into the last bounds of its producer."""
    return _fuse(graph, _merge_clip)


def fuse_add(graph: Graph) -> Graph:
    """Merge every Add into the later of its producers; the other operand is its residual."""
    return _fuse(graph, _merge_add)


def fuse_lookup(graph: Graph) -> Graph:
    """Merge every Lookup into its producer, composing tables if that has one."""
    return _fuse(graph, _merge_lookup)


def fuse_upsample(graph: Graph) -> Graph:
    """Merge every Upsample into its producer."""
    return _fuse(graph, _merge_upsample)


def _fuse(graph: Graph, merge: Merge) -> Graph:
    """Apply `merge` once to every pair of neighbours that allows it."""
    counts = consumers(graph)
    nodes: list[Operation] = []
    for node in operations(graph):
        for producer in reversed(nodes):
            name = producer.output.name
            if name in node.inputs and counts[name] == 1 and _all_channels(producer, node):
                merged = merge(producer, node, node.inputs.index(name))
                if merged is not None:
                    nodes.remove(producer)
                    node = merged
                    break
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes))


def _all_channels(producer: Operation, consumer: Operation) -> bool:
    """Whether the consumer computes as many channels as it gets; a selection may need fewer."""
    return producer.output.shape[0] == consumer.output.shape[0] and not consumer.first_group


def _pointwise(operation: Operation) -> bool:
    """Whether the operation passes single values unchanged up to its bounds."""
    requantization = operation.requantization
    return (
        operation.weight is None
        and operation.window == Window()
        and requantization.zero_point == 0
        and not operation.bias.any()
        and bool((requantization.multiplier == 1).all() and (requantization.shift == 0).all())
    )


def _unbounded(requantization: Requantization) -> bool:
    return (requantization.clip_min, requantization.clip_max) == (INT8_MIN, INT8_MAX)


def _joined(producer: Operation, consumer: Operation) -> Operation:
    """Return the producer under the consumer's name and output.

    The consumer's stages work on single values, so it is upsampled behind all of them.
    """
    return dataclasses.replace(
        producer, name=consumer.name, output=consumer.output,
        upsample=producer.upsample or consumer.upsample,
        layers=producer.layers + consumer.layers, macs=producer.macs + consumer.macs)


def _merge_clip(producer: Operation, clip: Operation, operand: int) -> Operation | None:
    if not _pointwise(clip) or clip.residual is not None or clip.table is not None:
        return None
    if producer.upsample and clip.upsample:
        return None
    low, high = clip.requantization.clip_min, clip.requantization.clip_max

    def narrowed(bounds: Bounds) -> Bounds:
        return dataclasses.replace(
            bounds, clip_min=min(max(bounds.clip_min, low), high),
            clip_max=min(max(bounds.clip_max, low), high))

    joined = _joined(producer, clip)
    if producer.table is not None:
        return dataclasses.replace(joined, table=np.clip(producer.table, low, high))
    if producer.residual is not None:
        return dataclasses.replace(joined, residual=narrowed(producer.residual))
    return dataclasses.replace(joined, requantization=narrowed(producer.requantization))


def _merge_add(producer: Operation, add: Operation, operand: int) -> Operation | None:
    residual = add.residual
    if residual is None or producer.residual is not None or producer.table is not None:
        return None
    if not (_pointwise(add) or _doubles_and_halves(add)) or not _unbounded(add.requantization):
        return None
    if producer.upsample:
        return None  # the residual would be added before
    if producer.displaced:
        return None  # its offsets come where a residual would
    if producer.requantization.rounding is not residual.rounding:
        return None  # one field of the instruction rounds both
    if operand == 1:
        residual = dataclasses.replace(
            residual, multiplier=residual.residual_multiplier,
            residual_multiplier=residual.multiplier)
    other = add.inputs[1 - operand]
    return dataclasses.replace(
        _joined(producer, add), inputs=(*producer.inputs, other), residual=residual,
        table=add.table)


def _doubles_and_halves(operation: Operation) -> bool:
    """Whether the operation passes values unchanged by the detour that lowering an Add may take."""
    weight, requantization = operation.weight, operation.requantization
    return (
        weight is not None
        and operation.reduction is Reduction.DEPTHWISE
        and operation.window == Window()
        and bool((weight == 2).all())
        and requantization.zero_point == 0
        and not operation.bias.any()
        and bool((requantization.multiplier << 1 == 1 << requantization.shift).all())
    )


def _merge_lookup(producer: Operation, lookup: Operation, operand: int) -> Operation | None:
    bounds = lookup.requantization
    if not _pointwise(lookup) or lookup.residual is not None or lookup.table is None:
        return None
    if producer.upsample and lookup.upsample:
        return None
    table = np.clip(np.arange(256, dtype=np.uint8).view(np.int8), bounds.clip_min, bounds.clip_max)
    table = lookup.table[table.view(np.uint8)]
    if producer.table is not None:
        table = table[producer.table.view(np.uint8)]
    return dataclasses.replace(_joined(producer, lookup), table=table)


def _merge_upsample(producer: Operation, upsample: Operation, operand: int) -> Operation | None:
    plain = _pointwise(upsample) and _unbounded(upsample.requantization)
    if not plain or not upsample.upsample or producer.upsample:
        return None
    if upsample.residual is not None or upsample.table is not None:
        return None
    return _joined(producer, upsample)
