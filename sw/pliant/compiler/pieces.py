"""Which lane groups each tile of output channels multiplies, out of one or several tensors.

A convolution reads the channels of its tensors as if they stood one after the other, every tensor
filling whole lane groups. A tile of ``cols`` output channels needs the lane groups in which one of
its weights is not zero: all of a dense convolution, few of a grouped one or of one that selects
channels. Every tile multiplies equally many, listed in ascending order; a tile that needs fewer
multiplies neighbours as well, by zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div, pack_weights


@dataclass(frozen=True)
class Piece:
    """Lane groups (half-open) of tensor number `source`, all beside one another."""

    source: int
    groups: tuple[int, int]


def dense_weights(weight: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
    """Return weights (out, in / groups, height, width) of a grouped convolution as (out, in, ...).

    Those between groups are 0.
    """
    out, inner, *kernel = weight.shape
    dense = np.zeros((groups, out // groups, groups, inner, *kernel), np.int8)
    each = np.arange(groups)
    dense[each, :, each] = weight.reshape(groups, out // groups, inner, *kernel)
    return dense.reshape(out, groups * inner, *kernel)


class LaneGroups:
    """The lane groups that tiles of output channels multiply.

    Parameters
    ----------
    config : AcceleratorConfig
    weight : int8 (out, in, kernel height, kernel width)
        ``in`` counts the channels of all tensors.
    channels : sequence of int
        Channels of each tensor.

    Attributes
    ----------
    tiles : int64 (tiles, lane groups of a tile)
        Indices among the lane groups of all tensors.
    """

    def __init__(
        self, config: AcceleratorConfig, weight: NDArray[np.int8], channels: Sequence[int]
    ) -> None:
        assert sum(channels) == weight.shape[1]
        self._config = config
        self._weight = weight
        self._channels = channels
        sizes = [ceil_div(count, config.lanes) for count in channels]
        self._source = np.repeat(np.arange(len(sizes)), sizes)
        self._local = np.concatenate([np.arange(size) for size in sizes])
        self.tiles = self._choose(self._needed())
        self._readings: dict[frozenset[int], tuple[float, float]] = {}
        self._most: dict[tuple[int, frozenset[int]], int] = {}

    @functools.cached_property
    def uniform(self) -> bool:
        """Whether all tiles multiply the same lane groups."""
        return bool((self.tiles == self.tiles[0]).all())

    @property
    def whole(self) -> bool:
        """Whether all tiles multiply all lane groups."""
        return self.tiles.shape[1] == len(self._source)

    def _padded(self) -> NDArray[np.int8]:
        """Return the weights with every tensor's channels filled up to whole lane groups."""
        lanes = self._config.lanes
        out, _, *kernel = self._weight.shape
        padded = np.zeros((out, len(self._source) * lanes, *kernel), np.int8)
        target = [group * lanes for group in np.flatnonzero(self._local == 0)]
        start = 0
        for first, count in zip(target, self._channels, strict=True):
            padded[:, first:first + count] = self._weight[:, start:start + count]
            start += count
        return padded

    def _needed(self) -> NDArray[np.bool_]:
        """Return (tiles, lane groups): which have a weight that is not zero."""
        used = self._padded().any(axis=(2, 3))
        cols = self._config.cols
        tiles = ceil_div(len(used), cols)
        rows = np.zeros((tiles * cols, used.shape[1]), bool)
        rows[:len(used)] = used
        return np.asarray(rows.reshape(tiles, cols, -1, self._config.lanes).any(axis=(1, 3)))

    @staticmethod
    def _choose(needed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return equally many lane groups for each tile: those needed, then the nearest ones."""
        count = max(1, int(needed.sum(axis=1).max()))
        index = np.arange(needed.shape[1])
        tiles = []
        for row in needed:
            own = index[row] if row.any() else index[:1]
            distance = np.abs(index[:, None] - own[None, :]).min(axis=1)
            tiles.append(np.sort(np.argsort(distance, kind="stable")[:count]))
        return np.array(tiles)

    def packed(self, *, narrow: bool) -> NDArray[np.int8]:
        """Return the weights in the order of `tiles`, as :func:`pack_weights` lays them out."""
        packed = pack_weights(self._config, self._padded(), narrow=narrow)
        return np.asarray(packed[np.arange(len(self.tiles))[:, None], self.tiles])

    def pieces(self, tile: int, span: tuple[int, int]) -> list[Piece]:
        """Return where positions `span` of a tile's list stand, joined where they adjoin."""
        pieces: list[Piece] = []
        for group in self.tiles[tile, slice(*span)]:
            source, local = int(self._source[group]), int(self._local[group])
            last = pieces[-1] if pieces else None
            if last is not None and last.source == source and last.groups[1] == local:
                pieces[-1] = Piece(source, (last.groups[0], local + 1))
            else:
                pieces.append(Piece(source, (local, local + 1)))
        return pieces

    def loaded(self, tile: int, span: tuple[int, int], resident: frozenset[int]) -> int:
        """Return how many of positions `span` of a tile's list are not of `resident` tensors."""
        return int(self._loaded(resident)[tile, slice(*span)].sum())

    def most_loaded(self, chunk: int, resident: frozenset[int]) -> int:
        """Return the most lane groups of a chunk of any list that are not of `resident` tensors."""
        if (chunk, resident) not in self._most:
            loaded = self._loaded(resident)
            self._most[chunk, resident] = max(
                int(loaded[:, start:start + chunk].sum(axis=1).max())
                for start in range(0, loaded.shape[1], chunk))
        return self._most[chunk, resident]

    def _loaded(self, resident: frozenset[int]) -> NDArray[np.bool_]:
        return ~np.isin(self._source[self.tiles], list(resident))

    def reading(self, resident: frozenset[int]) -> tuple[float, float]:
        """Return the share of what tiles multiply that is loaded, and the runs of a tile (`split`).

        Both on average, with `resident` tensors on chip.
        """
        if resident not in self._readings:
            tiles = range(1 if self.uniform else len(self.tiles))
            span = 0, self.tiles.shape[1]
            runs = sum(len(self.split(tile, span, resident)) for tile in tiles) / len(tiles)
            self._readings[resident] = float(self._loaded(resident).mean()), runs
        return self._readings[resident]

    def split(
        self, tile: int, span: tuple[int, int], resident: frozenset[int]
    ) -> list[tuple[int, int]]:
        """Cut positions `span` of a tile's list into runs that one instruction can read.

        Those of tensors that are not `resident` are loaded side by side.
        """
        runs: list[tuple[int, int]] = []
        start = span[0]
        before: Piece | None = None
        for piece in self.pieces(tile, span):
            stop = start + piece.groups[1] - piece.groups[0]
            if before is not None and not {before.source, piece.source} & resident:
                runs[-1] = runs[-1][0], stop
            else:
                runs.append((start, stop))
            start, before = stop, piece
        return runs
