"""Reads JSON documents value by value; what is missing or wrong is named by its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

LARGEST = (1 << 63) - 1


class DocumentError(ValueError):
    """A value is missing or is not what it must be; the message names its place."""


@dataclass(frozen=True)
class Item:
    """A value of a document and its place, such as ``layers[2].name``."""

    value: Any
    place: str = ""

    def __getitem__(self, name: str) -> Item:
        """Return a member of an object."""
        if not isinstance(self.value, dict):
            raise self.error("be an object")
        if name not in self.value:
            raise DocumentError(f"{self.place or 'the document'} has no {name!r}")
        return Item(self.value[name], f"{self.place}.{name}" if self.place else name)

    @property
    def absent(self) -> bool:
        """Whether it is null."""
        return self.value is None

    def items(self, count: int | None = None) -> list[Item]:
        """Return the items of a list, of `count` if that is given."""
        if not isinstance(self.value, list) or count not in (None, len(self.value)):
            raise self.error("be a list" + (f" of {count}" if count is not None else ""))
        return [Item(value, f"{self.place}[{index}]") for index, value in enumerate(self.value)]

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self.error("be text")
        return self.value

    def integer(self, low: int = 0, high: int = LARGEST) -> int:
        """Return an integer of `low` to `high`."""
        if type(self.value) is not int or not low <= self.value <= high:
            raise self.error(f"be an integer of {low} to {high}")
        return self.value

    def positive(self) -> float:
        """Return a real number above 0."""
        if type(self.value) not in (int, float) or not 0 < self.value < math.inf:
            raise self.error("be a positive number")
        return float(self.value)

    def error(self, rule: str) -> DocumentError:
        """Return the error of a value that breaks a rule."""
        found = repr(self.value)
        shown = found if len(found) <= 40 else found[:37] + "..."
        return DocumentError(f"{self.place or 'the document'} = {shown} must {rule}")
