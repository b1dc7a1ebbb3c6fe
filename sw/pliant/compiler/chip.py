"""Tensors that stay in the feature buffer between the layer that makes them and those that read."""

from __future__ import annotations

from dataclasses import dataclass

from pliant.compiler.buffers import Buffer, Slot
from pliant.compiler.graph import Shape
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Post, Target, fields
from pliant.spec.memory import ceil_div, region_strides, row_pitch

MAX_SIDE = min(field.maximum for field in fields(Post) if field.name in ("height", "width"))
"""Rows and columns that a tensor on chip may have: instructions name its last pixel."""


def chip_size(config: AcceleratorConfig, shape: Shape, rows: int | None = None) -> int:
    """Return the bank addresses that `rows` (default: all) rows of a tensor take."""
    channels, height, width = shape
    strides = region_strides(height if rows is None else rows, row_pitch(config, width))
    return ceil_div(channels, config.lanes) * strides[0]


@dataclass(eq=False)
class Part:
    """Rows of a tensor on chip, from row `first` on; whole rows of all lane groups."""

    buffer: Buffer
    first: int
    height: int
    width: int
    strides: tuple[int, int]


class ChipTensor:
    """A tensor in the feature buffer, whole or `part_rows` rows at a time.

    Parameters
    ----------
    config : AcceleratorConfig
    shape : (channels, height, width)
    slots : list of Slot
        Parts take turns in them.
    part_rows : int or None
        Rows of a part; all if None.
    """

    def __init__(
        self, config: AcceleratorConfig, shape: Shape, slots: list[Slot],
        part_rows: int | None = None,
    ) -> None:
        _, self.height, self.width = shape
        self.part_rows = self.height if part_rows is None else part_rows
        self.slots = slots
        self._size = chip_size(config, shape, self.part_rows)
        self._strides = region_strides(self.part_rows, row_pitch(config, self.width))
        self._parts: dict[int, Part] = {}

    def part(self, row: int) -> Part:
        """Return the part that holds `row`."""
        index = row // self.part_rows
        if index not in self._parts:
            slot = self.slots[index % len(self.slots)]
            first = index * self.part_rows
            self._parts[index] = Part(
                Buffer(Target.FEATURE, self._size, slot, address=slot.first), first,
                min(self.part_rows, self.height - first), self.width, self._strides)
        return self._parts[index]
