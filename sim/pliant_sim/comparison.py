"""Compares what several levels computed, integer by integer, and says where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL, GRAPH, SIMULATOR, RTL = (
    "Brevitas model (float64)", "integer graph", "instruction simulator", "RTL (Verilator)")
"""Names of the levels."""

Tensors = Mapping[str, NDArray[Any]]
"""Tensors by name, images in the first axis."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A tensor in which a level departs from the reference.

    `values` of it were compared and `differing` are not equal; `detail` tells of the first one, or
    of the shapes or types if these differ, or that the tensor is missing.
    """

    level: str
    tensor: str
    values: int
    differing: int
    detail: str

    def __str__(self) -> str:
        return (f"{self.level}: layer {self.tensor!r}: {self.differing} of {self.values} values "
                f"differ ({self.detail})")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one level compares: what was looked at and what differs."""

    level: str
    images: int
    tensors: int
    values: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether something was compared and all of it is equal."""
        return self.values > 0 and not self.differences


def compare(level: str, expected: Tensors, found: Tensors, names: Iterable[str]) -> Comparison:
    """Compare the tensors called `names` with ``==``.

    Parameters
    ----------
    level : str
        Name of what computed `found`.
    expected : tensors by name
        From the reference.
    found : tensors by name
        May hold fewer images: those are compared with the first of `expected`.
    names : names
        Tensors to compare. One that `found` lacks counts as different in every value.

    Raises
    ------
    KeyError
        The reference itself lacks a tensor.
    """
    differences = []
    tensors = values = images = 0
    for name in names:
        tensors += 1
        if name not in found:
            size = expected[name].size
            differences.append(Difference(level=level, tensor=name, values=size, differing=size,
                                          detail="the tensor is missing"))
            values += size
            continue
        actual = found[name]
        wanted = expected[name][:len(actual)]
        images = max(images, len(actual))
        values += wanted.size
        difference = _difference(level, name, wanted, actual)
        if difference is not None:
            differences.append(difference)
    return Comparison(level=level, images=images, tensors=tensors, values=values,
                      differences=tuple(differences))


def merge(level: str, parts: Iterable[Comparison]) -> Comparison:
    """Return several comparisons of one level as one; each tensor of each part counts."""
    parts = list(parts)
    return Comparison(
        level=level, images=max((part.images for part in parts), default=0),
        tensors=sum(part.tensors for part in parts), values=sum(part.values for part in parts),
        differences=tuple(item for part in parts for item in part.differences),
    )


def _difference(
    level: str, name: str, wanted: NDArray[Any], actual: NDArray[Any]
) -> Difference | None:
    if wanted.shape != actual.shape or wanted.dtype != actual.dtype:
        return Difference(
            level=level, tensor=name, values=wanted.size, differing=wanted.size,
            detail=f"expected {wanted.dtype} {wanted.shape}, found {actual.dtype} {actual.shape}")
    unequal = wanted != actual
    if not unequal.any():
        return None
    first = tuple(int(index) for index in np.argwhere(unequal)[0])
    return Difference(
        level=level, tensor=name, values=wanted.size, differing=int(unequal.sum()),
        detail=f"first at {first}: expected {wanted[first]}, found {actual[first]}")
