"""Operators that only move channels, traced: which channel of which tensor each one is.

Concatenation, splits, slices and the reshape-transpose-reshape of a channel shuffle compute
nothing. A chain of them is followed on arrays of indices, so that one selection of channels remains
where its result is read.
"""

from __future__ import annotations

import math
import operator as python_operator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import fx

from pliant_models.capture import arguments, aten, shape, unsupported

Channels: TypeAlias = NDArray[np.int64]
"""(*axes before height and width, 2): the index of a source, and a channel of it."""

SPLITS = (aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default)
RESHAPES = (aten.view.default, aten.reshape.default)
TRANSPOSES = (aten.transpose.int, aten.permute.default)
OPERATORS = (aten.cat.default, aten.slice.Tensor, *SPLITS, *TRANSPOSES)
"""All but reshapes and ``getitem``, which have other uses."""


def moves_channels(node: fx.Node) -> bool:
    """Return whether the operator of `node` only moves channels."""
    if node.target in RESHAPES:
        before, after = shape(node.all_input_nodes[0]), shape(node)
        return len(before) >= 3 and len(after) >= 3 and before[-2:] == after[-2:]
    return node.target in (python_operator.getitem, *OPERATORS)


def operands(node: fx.Node) -> list[fx.Node]:
    """Return the tensors whose channels the operator of `node` moves."""
    first = node.args[0]
    return list(first) if isinstance(first, (list, tuple)) else [first]  # type: ignore


def moved(node: fx.Node, sources: list[Any]) -> Any:
    """Return the Channels of a node's result, a list of them where the result is a list.

    Parameters
    ----------
    node : fx.Node
        One for which :func:`moves_channels` holds.
    sources : list
        Channels of :func:`operands`; for ``getitem``, the list that it indexes.

    Raises
    ------
    UnsupportedLayerError
        It moves images or pixels, too.
    """
    if node.target is python_operator.getitem:
        return sources[0][node.args[1]]
    first = sources[0]
    if node.target in RESHAPES:
        before, after = shape(operands(node)[0]), shape(node)
        if math.prod(before) != math.prod(after):
            raise _misses(node, f"reshapes {before} to {after}")
        return first.reshape(*after[:-2], 2)
    given = arguments(node)
    axes = first.ndim - 1
    if node.target is aten.permute.default:
        order = [dim % (axes + 3) for dim in given["dims"]]
        if [order[0], *order[-2:]] != [0, axes + 1, axes + 2]:
            raise _misses(node, f"permutes the axes to {order}")
        return first.transpose([dim - 1 for dim in order[1:-2]] + [axes])
    if node.target is aten.transpose.int:
        pair = [_axis(node, given[name], axes) for name in ("dim0", "dim1")]
        return first.swapaxes(*pair)
    dim = given["dim"]
    if node.target is aten.slice.Tensor and dim % (axes + 3) != 1:
        if shape(node) == shape(operands(node)[0]) and _whole(given):
            return first
        raise _misses(node, f"cuts along axis {dim}")
    axis = _axis(node, dim, axes)
    if node.target is aten.cat.default:
        return np.concatenate(sources, axis)
    if node.target is aten.slice.Tensor:
        return first[(slice(None),) * axis + (slice(given["start"], given["end"], given["step"]),)]
    sizes = [part.shape[axis + 1] for part in node.meta["val"]]
    return np.split(first, np.cumsum(sizes)[:-1], axis)


def _whole(given: dict[str, Any]) -> bool:
    """Return whether a slice takes everything, whatever the size."""
    return given["start"] in (None, 0) and given["step"] == 1 and given["end"] in (
        None, np.iinfo(np.int64).max)


def _axis(node: fx.Node, dim: int, axes: int) -> int:
    """Return the axis of Channels for a torch dimension."""
    axis = dim % (axes + 3) - 1
    if not 0 <= axis < axes:
        raise _misses(node, f"works along axis {dim}")
    return axis


def _misses(node: fx.Node, what: str) -> Exception:
    return unsupported(node, f"it {what}", "only channels, axis 1, can be moved")
