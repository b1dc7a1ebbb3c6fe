"""Where a tensor lives while a layer works on it."""

from __future__ import annotations

from dataclasses import dataclass

from pliant.compiler.chip import ChipTensor
from pliant.compiler.memory_plan import DdrTensor


@dataclass(frozen=True)
class Home:
    """Where a tensor lives: on chip, in DDR, or both (then it is read on chip)."""

    ddr: DdrTensor | None = None
    chip: ChipTensor | None = None
