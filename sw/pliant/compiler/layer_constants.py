"""Lays out what a layer reads beside features: weights or taps, parameter records, a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.geometry import Geometry
from pliant.compiler.memory_plan import Constants
from pliant.compiler.phases import PHASES
from pliant.spec.memory import (
    ceil_div,
    pack_displaced_taps,
    pack_parameters,
    pack_taps,
    round_up,
)


class LayerConstants:
    """The constants of one layer, placed in DDR.

    Parameters
    ----------
    geometry : Geometry
    channel_groups : int
        Lane groups of output channels that share an instruction.
    constants : Constants
        Where they are placed.

    Attributes
    ----------
    weights, parameters, table : int
        Offsets in bytes; 0 for what the layer has not.
    step_records : int
        Parameter records of an instruction: ``cols``, or more where it displaces taps.
    records : int
        Of all instructions, those that share theirs counted once.
    """

    def __init__(self, geometry: Geometry, channel_groups: int, constants: Constants) -> None:
        config, operation = geometry.config, geometry.operation
        self.weights = self.table = 0
        if operation.weight is not None:
            self.weights = constants.place(_packed(geometry, operation.weight, channel_groups))
        values = [operation.bias, operation.requantization.multiplier,
                  operation.requantization.shift]
        per_tile = channel_groups * config.lanes
        self.step_records = config.cols
        if geometry.displaced:
            self.step_records = round_up(per_tile, config.cols)
        if not geometry.matrix and not geometry.displaced and geometry.shared_record:
            values = [np.resize(array[:1], config.cols) for array in values]
        elif per_tile < self.step_records or geometry.displaced:
            values = [_spread(array, per_tile, self.step_records) for array in values]
        packed = pack_parameters(config, *values)
        self.records = len(packed) // config.parameter_bytes
        self.parameters = constants.place(packed)
        if operation.table is not None:
            self.table = constants.place(operation.table)


def _packed(
    geometry: Geometry, weight: NDArray[np.int8], channel_groups: int
) -> NDArray[np.int8]:
    """Return weights as the load unit brings them: tap words phase by phase, or passes."""
    config, operation = geometry.config, geometry.operation
    if operation.phased:
        return np.stack([pack_taps(config, weight[:, phase], (1, 1)) for phase in range(PHASES)])
    if geometry.displaced:
        step = channel_groups * config.lanes
        return np.concatenate([pack_displaced_taps(config, weight[first:first + step])
                               for first in range(0, len(weight), step)])
    if geometry.depthwise:
        return pack_taps(config, weight, operation.window.dilation)
    return geometry.lane_groups.packed(narrow=operation.narrow_weights)


def _spread(values: NDArray[np.int64], count: int, records: int) -> NDArray[np.int64]:
    """Put every `count` channels at the start of their own `records`."""
    tiles = ceil_div(len(values), count)
    padded = np.zeros((tiles, records), np.int64)
    flat = np.zeros(tiles * count, np.int64)
    flat[:len(values)] = values
    padded[:, :count] = flat.reshape(tiles, count)
    return padded.reshape(-1)
