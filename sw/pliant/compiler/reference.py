"""Evaluates an integer graph: what every node computes, in NumPy, for a batch of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DeformableConvolution,
    DepthwiseConvolution,
    Graph,
    GraphError,
    Lookup,
    MaxPool,
    Node,
    Padding,
    Requantization,
    SelectChannels,
    Shape,
    Tensor,
    Upsample,
)
from pliant.compiler.well_typed import check_types
from pliant.spec import numerics
from pliant.spec.numerics import INT8_MIN, INT32_MAX, INT32_MIN
from pliant.spec.sampling import FRACTION_BITS, Offsets, displacement, sample

Int8Array = NDArray[np.int8]
Int64Array = NDArray[np.int64]

FLOAT32_EXACT = 1 << 24
"""float32 holds every integer up to this: sums that stay below are exact in any order."""

COLUMN_BYTES = 1 << 25
"""Images of a batch are unfolded in chunks of about this size."""


def evaluate(
    graph: Graph, inputs: Mapping[str, Int8Array] | Int8Array, *, multiplier_bits: int = 31
) -> dict[str, Int8Array]:
    """Return every tensor of `graph` by name, int8 (images, channels, height, width).

    Parameters
    ----------
    graph : Graph
        Nodes in execution order.
    inputs : mapping from input name to int8 (images, channels, height, width), or one such array
        The array alone will do for a graph with one input.
    multiplier_bits : int
        That of the configuration; it matters only where a node rounds with Rounding.GEMMLOWP.

    Raises
    ------
    GraphError
        An input is missing or has the wrong shape or dtype, a node's values are of the wrong type
        or its shapes do not fit, or an accumulator leaves int32.
    """
    check_types(graph)
    tensors = graph.tensors()
    values: dict[str, Int8Array] = _inputs(graph, inputs)
    for node in graph.nodes:
        operands = []
        for name in node.inputs:
            if name not in values:
                raise GraphError(f"node {node.name!r} reads {name!r}, which no earlier node "
                                 "defines; put the nodes in execution order")
            operands.append(values[name])
        zero_points = [tensors[name].zero_point for name in node.inputs]
        result = _evaluate_node(node, operands, zero_points, multiplier_bits)
        if result.shape[1:] != node.output.shape:
            raise GraphError(f"node {node.name!r} yields shape {result.shape[1:]}, but its output "
                             f"is declared as {node.output.shape}")
        values[node.output.name] = result
    return values


def output_size(
    size: int, before: int, after: int, kernel: int, stride: int, dilation: int = 1
) -> int:
    """Return the outputs of a window along one axis; 0 or less when it does not fit."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def graph_macs(node: Node, input_shape: Shape) -> int:
    """Return the useful multiply-accumulates of one image: kernel taps on padding do not count.

    Deformable taps count where they are without their displacement: what the plain convolution has.
    Nodes other than convolutions have none.
    """
    if isinstance(node, (Convolution, DeformableConvolution)):
        kernels = node.weight.shape[0] * node.weight.shape[1]
    elif isinstance(node, DepthwiseConvolution):
        kernels = node.weight.shape[0]
    else:
        return 0
    kernel_height, kernel_width = node.weight.shape[-2:]
    _, height, width = input_shape
    pad = node.padding
    rows = _taps_inside(height, pad.top, pad.bottom, kernel_height, node.stride[0],
                        node.dilation[0])
    columns = _taps_inside(width, pad.left, pad.right, kernel_width, node.stride[1],
                           node.dilation[1])
    return kernels * rows * columns


def _taps_inside(
    size: int, before: int, after: int, kernel: int, stride: int, dilation: int
) -> int:
    outputs = np.arange(output_size(size, before, after, kernel, stride, dilation))
    position = outputs[:, None] * stride - before + np.arange(kernel)[None, :] * dilation
    return int(((position >= 0) & (position < size)).sum())


def _inputs(
    graph: Graph, inputs: Mapping[str, Int8Array] | Int8Array
) -> dict[str, Int8Array]:
    if isinstance(inputs, np.ndarray):
        if len(graph.inputs) != 1:
            names = ", ".join(repr(tensor.name) for tensor in graph.inputs)
            raise GraphError(f"graph {graph.name!r} has several inputs ({names}); pass a dict")
        inputs = {graph.inputs[0].name: inputs}
    values = {}
    for tensor in graph.inputs:
        if tensor.name not in inputs:
            raise GraphError(f"graph {graph.name!r}: no value given for input {tensor.name!r}")
        values[tensor.name] = _checked_input(tensor, inputs[tensor.name])
    return values


def _checked_input(tensor: Tensor, value: Int8Array) -> Int8Array:
    if value.dtype != np.int8 or value.ndim != 4 or value.shape[1:] != tensor.shape:
        raise GraphError(f"input {tensor.name!r} is {value.dtype} {value.shape}; it must be int8 "
                         f"(images, {', '.join(map(str, tensor.shape))})")
    return value


def _evaluate_node(
    node: Node, operands: list[Int8Array], zero_points: list[int], multiplier_bits: int
) -> Int8Array:
    value = operands[0]
    if isinstance(node, Convolution):
        sums = _convolve(node, value, zero_points[0])
        return _requantize(node, sums, node.requantization, multiplier_bits)
    if isinstance(node, DepthwiseConvolution):
        sums = _convolve_depthwise(node, value, zero_points[0])
        return _requantize(node, sums, node.requantization, multiplier_bits)
    if isinstance(node, DeformableConvolution):
        sums = _convolve_deformable(node, operands, zero_points[0])
        return _requantize(node, sums, node.requantization, multiplier_bits)
    if isinstance(node, SelectChannels):
        return np.stack([operands[source][:, channel] for source, channel in node.channels], axis=1)
    if isinstance(node, Upsample):
        return value.repeat(2, axis=2).repeat(2, axis=3)
    if isinstance(node, AveragePool):
        shifted = _pad(value.astype(np.int64) - zero_points[0], node.padding, 0)
        sums = _windows(node, shifted, node.kernel, node.stride).sum(axis=(-2, -1))
        return _requantize(node, sums, node.requantization, multiplier_bits)
    if isinstance(node, MaxPool):
        padded = _pad(value, node.padding, INT8_MIN)
        windows = _windows(node, padded, node.kernel, node.stride, node.dilation)
        return np.asarray(windows.max(axis=(-2, -1)))
    if isinstance(node, Add):
        return _add(node, operands)
    if isinstance(node, Lookup):
        return np.asarray(node.table[value.view(np.uint8)])
    if isinstance(node, Clip):
        return np.clip(value, node.clip_min, node.clip_max)
    raise GraphError(f"node {node.name!r}: the evaluator knows no {type(node).__name__}")


def _add(node: Add, operands: list[Int8Array]) -> Int8Array:
    first, second = operands
    if first.shape != second.shape:
        raise GraphError(f"node {node.name!r} adds tensors of shapes {first.shape[1:]} and "
                         f"{second.shape[1:]}; they must be equal")
    return numerics.add(
        first, second, multiplier_first=node.multipliers[0],
        multiplier_second=node.multipliers[1], offset=node.offset, shift=node.shift,
        rounding=node.rounding, zero_point=node.output.zero_point,
        clip_min=node.clip_min, clip_max=node.clip_max,
    )


def _convolve(node: Convolution, value: Int8Array, zero_point: int) -> Int64Array:
    """Return bias + sums, int64 (images, out, height, width)."""
    out, inner = node.weight.shape[:2]
    if inner * node.groups != value.shape[1]:
        raise GraphError(f"node {node.name!r}: weights of {inner} input channels in {node.groups} "
                         f"groups meet a tensor of {value.shape[1]}")
    dtype = _exact_float(node.weight, zero_point)
    kernel = (node.weight.shape[2], node.weight.shape[3])
    shifted = _pad(np.subtract(value, zero_point, dtype=dtype), node.padding, 0)
    windows = _windows(node, shifted, kernel, node.stride, node.dilation)
    images, _, height, width = windows.shape[:4]
    sums = np.empty((images, out, height, width), np.int64)
    share = out // node.groups
    for group in range(node.groups):
        own = slice(group * share, (group + 1) * share)
        _multiply(windows[:, group * inner:(group + 1) * inner], node.weight[own].astype(dtype),
                  sums[:, own])
    return sums + node.bias.astype(np.int64)[:, None, None]


def _multiply(
    windows: NDArray[Any], weight: NDArray[Any], sums: Int64Array
) -> None:
    """Set sums (images, out, height, width) to the products of windows and a dense kernel."""
    images, _, height, width = windows.shape[:4]
    matrix = weight.reshape(len(weight), -1).T
    image_bytes = max(1, height * width * matrix.shape[0] * windows.itemsize)
    chunk = max(1, COLUMN_BYTES // image_bytes)
    for start in range(0, images, chunk):
        part = windows[start:start + chunk].transpose(0, 2, 3, 1, 4, 5)
        product = part.reshape(-1, matrix.shape[0]) @ matrix
        sums[start:start + chunk] = product.reshape(
            -1, height, width, len(weight)).transpose(0, 3, 1, 2)


def _convolve_depthwise(
    node: DepthwiseConvolution, value: Int8Array, zero_point: int
) -> Int64Array:
    """Return bias + sums, int64 (images, channels, height, width)."""
    channels, *kernel = node.weight.shape
    if channels != value.shape[1]:
        raise GraphError(f"node {node.name!r}: depthwise weights of {channels} channels meet a "
                         f"tensor of {value.shape[1]}")
    shifted = _pad(np.subtract(value, zero_point, dtype=np.int64), node.padding, 0)
    windows = _windows(node, shifted, (kernel[0], kernel[1]), node.stride, node.dilation)
    sums = np.zeros(windows.shape[:4], np.int64)
    for y, x in np.ndindex(*kernel):
        sums += windows[..., y, x] * node.weight[:, y, x, None, None].astype(np.int64)
    return sums + node.bias.astype(np.int64)[:, None, None]


def _convolve_deformable(
    node: DeformableConvolution, operands: list[Int8Array], zero_point: int
) -> Int64Array:
    """Return bias + sums, int64 (images, out, height, width)."""
    value, offsets = operands[:2]
    mask = operands[2] if node.sampling.offsets is Offsets.MODULATED else None
    out, inner, *kernel = node.weight.shape
    if inner * node.groups != value.shape[1]:
        raise GraphError(f"node {node.name!r}: weights of {inner} input channels in {node.groups} "
                         f"groups meet a tensor of {value.shape[1]}")
    channels_last = np.ascontiguousarray(value.transpose(0, 2, 3, 1))
    images, _, height, width = offsets.shape
    weight = node.weight.reshape(node.groups, out // node.groups, inner, *kernel).astype(np.int64)
    sums = np.zeros((images, height, width, node.groups, out // node.groups), np.int64)
    base_y = (np.arange(height) * node.stride[0] - node.padding.top)[:, None]
    base_x = (np.arange(width) * node.stride[1] - node.padding.left)[None, :]
    for tap, (ky, kx) in enumerate(np.ndindex(*kernel)):
        rows, columns = displacement(node.sampling, offsets, (kernel[0], kernel[1]), ky, kx)
        samples = sample(
            channels_last,
            rows + (base_y + ky * node.dilation[0] << FRACTION_BITS),
            columns + (base_x + kx * node.dilation[1] << FRACTION_BITS),
            zero_point=zero_point, interpolate=node.sampling.interpolate,
            mask=None if mask is None else mask[:, tap])
        grouped = samples.reshape(images, height, width, node.groups, inner).astype(np.int64)
        sums += np.einsum("nhwgi,goi->nhwgo", grouped - zero_point, weight[..., ky, kx],
                          optimize=True)
    merged = sums.reshape(images, height, width, out).transpose(0, 3, 1, 2)
    return merged + node.bias.astype(np.int64)[:, None, None]


def _exact_float(weight: Int8Array, zero_point: int) -> type[np.floating[Any]]:
    """Return a float type in which every partial sum of the convolution is exact."""
    largest = max(abs(INT8_MIN - zero_point), abs(numerics.INT8_MAX - zero_point))
    magnitudes = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    bound = int(magnitudes.max(initial=0)) * largest
    return np.float32 if bound < FLOAT32_EXACT else np.float64


def _requantize(
    node: Node, sums: Int64Array, requantization: Requantization, multiplier_bits: int
) -> Int8Array:
    if requantization.zero_point != node.output.zero_point:
        raise GraphError(f"node {node.name!r} requantizes to zero point "
                         f"{requantization.zero_point}, but its output declares "
                         f"{node.output.zero_point}; they must be equal")
    if sums.size and not INT32_MIN <= sums.min() <= sums.max() <= INT32_MAX:
        raise GraphError(f"node {node.name!r}: accumulators span {sums.min()}..{sums.max()}, which "
                         "is not int32; use smaller weights, fewer input channels or a bias "
                         "within range")
    return numerics.requantize(
        sums, requantization.multiplier[:, None, None], requantization.shift[:, None, None],
        rounding=requantization.rounding, multiplier_bits=multiplier_bits,
        zero_point=requantization.zero_point, clip_min=requantization.clip_min,
        clip_max=requantization.clip_max,
    )


def _pad(value: NDArray[Any], padding: Padding, fill: int) -> NDArray[Any]:
    rows, columns = (padding.top, padding.bottom), (padding.left, padding.right)
    return np.pad(value, ((0, 0), (0, 0), rows, columns), constant_values=fill)


def _windows(
    node: Node,
    value: NDArray[Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> NDArray[Any]:
    """Return a view (images, channels, out height, out width, kernel height, kernel width)."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if span[0] > value.shape[2] or span[1] > value.shape[3]:
        raise GraphError(f"node {node.name!r}: a window of {span[0]}x{span[1]} does not fit into "
                         f"the padded input of {value.shape[2]}x{value.shape[3]}")
    views = sliding_window_view(value, span, axis=(2, 3))  # type: ignore[call-overload]
    return np.asarray(views[:, :, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]])
