"""Depthwise convolutions of upsampled tensors, computed before the pixels are repeated.

A 3x3 window over a tensor whose pixels are repeated 2x2 sees 2x2 different ones: which, depends on
the parities of the output's row and column, its phase. The taps that see one pixel are added up
beforehand, so that each phase is a 2x2 convolution of the small tensor: 4 products for 9, and a
patch of the feature buffer for each result. The post unit writes each phase to its own bank.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.graph import Graph, Padding
from pliant.compiler.operation import Operation, Reduction, Window, consumers, operations
from pliant.compiler.upsample import halved
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div
from pliant.spec.numerics import WEIGHT_MAX

PHASES = 4
"""(0, 0), (0, 1), (1, 0), (1, 1): parities of an output's row and column."""

_WINDOW = Window(kernel=(3, 3), padding=Padding(top=1, left=1, bottom=1, right=1))


def split_phases(graph: Graph, config: AcceleratorConfig) -> Graph:
    """Return a lowered graph whose 3x3 depthwise layers of upsampled tensors work in phases.

    An upsampled tensor vanishes; so all that read it must be such layers, with the taps of a phase
    within the range of weights, and those of all phases within the buffer of taps.
    """
    reads = consumers(graph)
    layers = {node.name: node for node in operations(graph)}
    for node in operations(graph):
        readers = [other for other in operations(graph) if node.output.name in other.inputs]
        if (not node.upsample or node.phased or not readers
                or reads[node.output.name] != len(readers)
                or not all(_fits(reader, node, config) for reader in readers)):
            continue
        small = halved(node.output, graph.tensors())
        layers[node.name] = dataclasses.replace(node, upsample=False, output=small)
        for reader in readers:
            assert reader.weight is not None
            layers[reader.name] = dataclasses.replace(
                layers[reader.name], inputs=(small.name,), weight=phase_weights(reader.weight),
                upsample=True, phased=True)
    return graph.replace(nodes=tuple(layers.values()))


def phase_weights(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the weights (channels, phase, 2, 2) of a kernel (channels, 3, 3).

    Row 0 of an even phase sees the pixel above, both others see the next; an odd phase likewise
    from below.
    """
    sums = weight.astype(np.int64)
    rows = [np.stack([sums[:, 0], sums[:, 1] + sums[:, 2]], axis=1),
            np.stack([sums[:, 0] + sums[:, 1], sums[:, 2]], axis=1)]
    phases = [np.stack(part, axis=2) for row in rows for part in (
        (row[:, :, 0], row[:, :, 1] + row[:, :, 2]), (row[:, :, 0] + row[:, :, 1], row[:, :, 2]))]
    stacked = np.stack(phases, axis=1)
    if np.abs(stacked).max(initial=0) > WEIGHT_MAX:
        raise OverflowError("the taps of a phase pass the range of weights")
    return np.asarray(stacked, np.int8)


def _fits(layer: Operation, source: Operation, config: AcceleratorConfig) -> bool:
    window = dataclasses.replace(layer.window, pad_value=0)
    if (layer.reduction is not Reduction.DEPTHWISE or window != _WINDOW or layer.upsample
            or layer.residual is not None or layer.inputs != (source.output.name,)
            or layer.first_group or layer.output.shape != source.output.shape):
        return False
    groups = ceil_div(layer.output.shape[0], config.lanes)
    if groups * PHASES > config.tap_depth:
        return False
    assert layer.weight is not None
    try:
        phase_weights(layer.weight)
    except OverflowError:
        return False
    return True
