"""Checks that the values of a graph have the types that its classes declare.

NumPy would take a bias of 0.5 for 0, a stride of True for 1, and end at others far from their node.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np

from pliant.compiler.graph import Graph, GraphError, Padding, Requantization, Tensor
from pliant.spec.numerics import Rounding
from pliant.spec.sampling import Sampling

_INTEGERS = ("groups", "offset", "shift", "clip_min", "clip_max", "zero_point")
_PAIRS = ("kernel", "stride", "dilation", "multipliers")
_ARRAYS = ("weight", "bias", "channels", "table")
_PER_CHANNEL = ("multiplier", "shift")

Problem = tuple[str, str]
"""What was found, and what it must be."""


def check_types(graph: Graph) -> None:
    """Raise GraphError where a value of `graph` is of another type than declared.

    The message names the node, or the input, and the field.
    """
    for tensor in graph.inputs:
        _raise("input", tensor.name, _tensor(tensor))
    for node in graph.nodes:
        _raise("node", node.name, _node(node))


def _raise(kind: str, name: object, problems: Iterator[Problem]) -> None:
    for found, rule in problems:
        raise GraphError(f"{kind} {name!r}: {found}; it must be {rule}")


def _integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _tuple(value: object, length: int) -> bool:
    return isinstance(value, tuple) and len(value) == length and all(map(_integer, value))


def _tensor(tensor: Tensor) -> Iterator[Problem]:
    if not isinstance(tensor.name, str) or not tensor.name:
        yield f"its name is {tensor.name!r}", "text"
    if not _tuple(tensor.shape, 3):
        yield f"shape of {tensor.name!r} is {tensor.shape!r}", "(channels, height, width)"
    if not isinstance(tensor.scale, Real) or not 0 < tensor.scale < math.inf:
        yield f"scale of {tensor.name!r} is {tensor.scale!r}", "a positive number"
    if not _integer(tensor.zero_point):
        yield f"zero point of {tensor.name!r} is {tensor.zero_point!r}", "an integer"


def _node(node: Any) -> Iterator[Problem]:
    if not isinstance(node.name, str) or not node.name:
        yield f"its name is {node.name!r}", "text"
    if not isinstance(node.inputs, tuple) or not node.inputs or not all(
            isinstance(name, str) for name in node.inputs):
        yield f"inputs is {node.inputs!r}", "a tuple of one or more names"
    yield from _tensor(node.output)
    for field in dataclasses.fields(node):
        yield from _field(field.name, getattr(node, field.name))


def _field(name: str, value: Any) -> Iterator[Problem]:
    if name == "requantization":
        if not isinstance(value, Requantization):
            yield f"requantization is a {type(value).__name__}", "a Requantization"
            return
        for each in _PER_CHANNEL:
            yield from _array(each, getattr(value, each))
        for each in ("zero_point", "clip_min", "clip_max", "rounding"):
            yield from _field(each, getattr(value, each))
    elif name == "rounding" and not isinstance(value, Rounding):
        yield f"rounding is {value!r}", "a Rounding"
    elif name == "sampling" and not isinstance(value, Sampling):
        yield f"sampling is {value!r}", "a Sampling"
    elif name == "padding":
        if not isinstance(value, Padding) or not all(map(_integer, dataclasses.astuple(value))):
            yield f"padding is {value!r}", "a Padding of integers"
    elif name in _ARRAYS:
        yield from _array(name, value)
    elif name in _PAIRS and not _tuple(value, 2):
        yield f"{name} is {value!r}", "two integers"
    elif name in _INTEGERS and not _integer(value):
        yield f"{name} is {value!r}", "an integer"


def _array(name: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, np.ndarray):
        yield f"{name} is a {type(value).__name__}", "an array of integers"
    elif not np.issubdtype(value.dtype, np.integer) or not value.size:
        yield f"{name} is {value.dtype} {value.shape}", "an array of integers, one or more"
