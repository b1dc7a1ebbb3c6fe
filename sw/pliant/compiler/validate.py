"""Checks that a graph is well formed and that the configuration can compute it exactly."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.errors import CompileError
from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DeformableConvolution,
    DepthwiseConvolution,
    Graph,
    Lookup,
    MaxPool,
    Node,
    Requantization,
    SelectChannels,
    Shape,
    Tensor,
    Upsample,
)
from pliant.compiler.operation import Operation, Reduction, Window
from pliant.compiler.well_typed import check_types
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Matrix, Post, fields
from pliant.spec.numerics import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    INT32_MIN,
    MAX_SHIFT,
    WEIGHT_MAX,
    WEIGHT_MIN,
    Rounding,
)
from pliant.spec.sampling import FRACTION_BITS, MASK_ONE, MAX_SCALED_KERNEL, Offsets

SUPPORTED = (Convolution, DepthwiseConvolution, DeformableConvolution, Add, MaxPool, AveragePool,
             Lookup, Clip, SelectChannels, Upsample)
_POST = {field.name: field for field in fields(Post)}
_MATRIX = {field.name: field for field in fields(Matrix)}


def validate_graph(graph: Graph) -> None:
    """Check types, names, order and shapes of `graph`.

    Raises
    ------
    GraphError
        A value is of another type than declared; names the node.
    CompileError
        Names the node.
    """
    if not graph.nodes:
        raise CompileError(graph.name, "the graph has no nodes", "add a layer")
    check_types(graph)
    defined: dict[str, Tensor] = {}
    for tensor in graph.inputs:
        _define(tensor.name, tensor, defined)
    for node in graph.nodes:
        if not isinstance(node, SUPPORTED):
            known = ", ".join(kind.__name__ for kind in SUPPORTED)
            raise CompileError(node.name, f"{type(node).__name__} is not supported",
                               f"express it with {known}")
        for name in node.inputs:
            if name not in defined:
                raise CompileError(node.name, f"input {name!r} is not defined by an earlier node",
                                   "put the nodes in execution order")
        _check_operands(node, [defined[name] for name in node.inputs])
        _define(node.name, node.output, defined)
    for name, count in Counter(node.name for node in graph.nodes).items():
        if count > 1:
            raise CompileError(name, "several nodes have this name", "give every node its own name")
    produced = {node.output.name for node in graph.nodes}
    for name in graph.outputs:
        if name not in produced:
            raise CompileError(graph.name, f"output {name!r} is computed by no node",
                               "name the output of a node")
    if len(set(graph.outputs)) != len(graph.outputs) or not graph.outputs:
        raise CompileError(graph.name, f"outputs are {graph.outputs}", "name each output once")


def _define(layer: str, tensor: Tensor, defined: dict[str, Tensor]) -> None:
    if tensor.name in defined:
        raise CompileError(layer, f"tensor {tensor.name!r} is defined twice",
                           "give every tensor its own name")
    if min(tensor.shape) < 1:
        raise CompileError(layer, f"tensor {tensor.name!r} has shape {tensor.shape}",
                           "every dimension must be at least 1")
    _range(layer, f"zero point of {tensor.name!r}", tensor.zero_point, INT8_MIN, INT8_MAX)
    defined[tensor.name] = tensor


def _range(layer: str, what: str, value: int, low: int, high: int, remedy: str = "") -> None:
    if not low <= value <= high:
        raise CompileError(layer, f"{what} is {value}, allowed is {low} to {high}",
                           remedy or "quantize it to that range")


def _check_operands(node: Node, inputs: list[Tensor]) -> None:
    arity = 2 if isinstance(node, Add) else 1
    if isinstance(node, DeformableConvolution):
        arity = 3 if node.sampling.offsets is Offsets.MODULATED else 2
    if isinstance(node, SelectChannels):
        arity = max(1, len(inputs))
    if len(inputs) != arity:
        raise CompileError(node.name, f"{type(node).__name__} has {len(inputs)} inputs",
                           f"it takes {arity}")
    shape = inputs[0].shape
    if isinstance(node, Add) and inputs[1].shape != shape:
        raise CompileError(node.name, f"it adds tensors of shapes {shape} and {inputs[1].shape}",
                           "both operands need one shape; broadcasting is not supported")
    if isinstance(node, (Convolution, DepthwiseConvolution)):
        _check_weights(node, inputs[0])
    if isinstance(node, DeformableConvolution):
        _check_deformable(node, inputs)
    if isinstance(node, SelectChannels):
        _check_selection(node, inputs)
    if isinstance(node, Lookup) and (node.table.shape != (256,) or node.table.dtype != np.int8):
        raise CompileError(node.name, f"table is {node.table.dtype} {node.table.shape}",
                           "it must be int8 (256,)")
    if isinstance(node, Clip):
        _check_clip(node.name, node.clip_min, node.clip_max)
    expected = output_shape(node, shape)
    if node.output.shape != expected:
        raise CompileError(node.name, f"output {node.output.name!r} is declared as "
                           f"{node.output.shape}, the operands give {expected}",
                           "correct the declared shape or the window")


def _check_deformable(node: DeformableConvolution, inputs: list[Tensor]) -> None:
    """Check weights, sampling, and the shapes and zero points of offsets and masks."""
    name, sampling = node.name, node.sampling
    if node.weight.ndim != 4 or node.weight.dtype != np.int8:
        raise CompileError(name, f"weight is {node.weight.dtype} {node.weight.shape}",
                           "it must be int8 (out, in / groups, kernel height, kernel width)")
    _check_weight_range(node)
    _check_bias(node)
    _check_groups(node, inputs[0])
    _, _, *kernel = node.weight.shape
    _range(name, "fraction_bits of the offsets", sampling.fraction_bits, 0, FRACTION_BITS)
    if sampling.offsets is Offsets.NONE:
        raise CompileError(name, "it has no offsets", "use a Convolution")
    _range(name, "the least offset", sampling.minimum, INT8_MIN, INT8_MAX)
    _range(name, "the greatest offset", sampling.maximum, sampling.minimum, INT8_MAX)
    if sampling.offsets is Offsets.SCALED:
        for side in kernel:
            if side % 2 == 0 or side > MAX_SCALED_KERNEL:
                raise CompileError(name, f"one offset per pixel scales a {kernel[0]}x{kernel[1]} "
                                   "kernel", f"sides must be odd, at most {MAX_SCALED_KERNEL}")
    size = output_shape(node, inputs[0].shape)[1:]
    for what, tensor, channels, zero_point in zip(
            ("offsets", "masks"), inputs[1:],
            (sampling.offset_channels((kernel[0], kernel[1])),
             sampling.mask_channels((kernel[0], kernel[1]))), (0, -MASK_ONE), strict=False):
        if tensor.shape != (channels, *size):
            raise CompileError(name, f"{what} {tensor.name!r} have shape {tensor.shape}",
                               f"they must have shape {(channels, *size)}")
        if tensor.zero_point != zero_point:
            raise CompileError(name, f"{what} {tensor.name!r} have zero point {tensor.zero_point}",
                               f"it must be {zero_point}")


def _check_groups(node: Convolution | DeformableConvolution, source: Tensor) -> None:
    """Check that weights, groups and the input's channels fit one another."""
    out, inner = node.weight.shape[:2]
    if node.groups < 1 or out % node.groups or inner * node.groups != source.shape[0]:
        raise CompileError(
            node.name, f"weights of {inner} to {out} channels in {node.groups} groups, the input "
            f"{source.name!r} has {source.shape[0]} channels",
            "groups must divide the output channels, and groups times the weights' input channels "
            "be those of the input")


def _check_selection(node: SelectChannels, inputs: list[Tensor]) -> None:
    """Check that channels exist and that all tensors mean the same by an integer."""
    channels = node.channels
    if channels.ndim != 2 or channels.shape[1] != 2 or not len(channels):
        raise CompileError(node.name, f"channels have shape {channels.shape}",
                           "each needs the index of an input and a channel of it")
    for tensor in inputs:
        if tensor.shape[1:] != inputs[0].shape[1:]:
            raise CompileError(node.name, f"it joins tensors of {inputs[0].shape[1:]} and "
                               f"{tensor.shape[1:]} pixels", "all need one size")
        if (tensor.scale, tensor.zero_point) != (node.output.scale, node.output.zero_point):
            raise CompileError(
                node.name, f"{tensor.name!r} has scale {tensor.scale:g} and zero point "
                f"{tensor.zero_point}, the result {node.output.scale:g} and "
                f"{node.output.zero_point}", "give all tensors that are joined one quantizer")
    sizes = np.array([tensor.shape[0] for tensor in inputs])
    sources = channels[:, 0]
    if sources.min() < 0 or sources.max() >= len(inputs) or channels[:, 1].min() < 0 or bool(
            (channels[:, 1] >= sizes[sources]).any()):
        raise CompileError(node.name, "it selects a channel that no input has",
                           f"the inputs have {', '.join(map(str, sizes))} channels")


def _check_weight_range(node: Convolution | DepthwiseConvolution | DeformableConvolution) -> None:
    _range(node.name, "the smallest weight", int(node.weight.min(initial=0)), WEIGHT_MIN,
           WEIGHT_MAX, "quantize weights to the narrow range, as Brevitas does: the matrix array "
           "puts two of them in one multiplier")


def _check_bias(node: Convolution | DepthwiseConvolution | DeformableConvolution) -> None:
    if node.bias.shape != (node.weight.shape[0],):
        raise CompileError(node.name, f"bias has shape {node.bias.shape}",
                           f"it must have one entry per output channel, {node.weight.shape[0]}")


def _check_weights(node: Convolution | DepthwiseConvolution, source: Tensor) -> None:
    """Check shapes, type and range of weights, and the shape of biases."""
    dense = isinstance(node, Convolution)
    axes = "(out, in / groups, kernel height, kernel width)" if dense else (
        "(channels, kernel height, kernel width)")
    if node.weight.ndim != (4 if dense else 3) or node.weight.dtype != np.int8:
        raise CompileError(node.name, f"weight is {node.weight.dtype} {node.weight.shape}",
                           f"it must be int8 {axes}")
    _check_weight_range(node)
    if isinstance(node, Convolution):
        _check_groups(node, source)
    elif len(node.weight) != source.shape[0]:
        raise CompileError(
            node.name, f"weights take {len(node.weight)} input channels, the input "
            f"{source.name!r} has {source.shape[0]}",
            "a depthwise convolution has one kernel for each input channel")
    _check_bias(node)


def output_shape(node: Node, shape: Shape) -> Shape:
    """Return the shape that `node` computes from an input of `shape`."""
    if isinstance(node, SelectChannels):
        return len(node.channels), *shape[1:]
    if isinstance(node, Upsample):
        return shape[0], 2 * shape[1], 2 * shape[2]
    kernels = (Convolution, DepthwiseConvolution, DeformableConvolution)
    if not isinstance(node, (*kernels, MaxPool, AveragePool)):
        return shape
    if isinstance(node, kernels):
        channels, kernel = node.weight.shape[0], node.weight.shape[-2:]
    else:
        channels, kernel = shape[0], node.kernel
    dilation = (1, 1) if isinstance(node, AveragePool) else node.dilation
    pad = node.padding
    if min(pad.top, pad.left, pad.bottom, pad.right) < 0:
        raise CompileError(node.name, f"padding is {pad}", "it must not be negative")
    if min(*kernel, *node.stride, *dilation) < 1:
        raise CompileError(node.name, f"kernel {tuple(kernel)}, stride {node.stride}, "
                           f"dilation {dilation}", "each must be at least 1")
    sizes = []
    for size, before, after, k, s, d in (
        (shape[1], pad.top, pad.bottom, kernel[0], node.stride[0], dilation[0]),
        (shape[2], pad.left, pad.right, kernel[1], node.stride[1], dilation[1]),
    ):
        span = d * (k - 1) + 1
        if size + before + after < span:
            raise CompileError(node.name, f"its window spans {span} pixels, the padded input has "
                               f"{size + before + after}", "use a smaller kernel or more padding")
        sizes.append((size + before + after - span) // s + 1)
    return channels, sizes[0], sizes[1]


def _check_clip(layer: str, low: int, high: int) -> None:
    _range(layer, "clip_min", low, INT8_MIN, INT8_MAX)
    _range(layer, "clip_max", high, low, INT8_MAX)


def validate_operation(operation: Operation, config: AcceleratorConfig) -> None:
    """Check that every number of a lowered layer fits the instruction fields of `config`."""
    _check_window(operation.name, operation.window)
    _check_requantization(operation.name, operation.requantization, operation.output.shape[0],
                          config)
    _check_accumulators(operation)
    residual = operation.residual
    if residual is None:
        return
    for what, value, name in (
        ("first add multiplier", residual.multiplier, "add_multiplier"),
        ("second add multiplier", residual.residual_multiplier, "add_residual_multiplier"),
        ("add offset", residual.offset, "add_offset"), ("add shift", residual.shift, "add_shift"),
    ):
        field = _POST[name]
        _range(operation.name, what, value, field.minimum, field.maximum,
               "scale multipliers and offset down and shorten the shift")
    _range(operation.name, "add zero point", residual.zero_point, INT8_MIN, INT8_MAX)
    _check_clip(operation.name, residual.clip_min, residual.clip_max)


def _check_window(layer: str, window: Window) -> None:
    pad = window.padding
    for what, values, name, remedy in (
        ("kernel", window.kernel, "kernel_height", "use a smaller kernel, or several layers"),
        ("stride", window.stride, "stride_y", "use a smaller stride"),
        ("dilation", window.dilation, "dilation_y", "use a smaller dilation"),
    ):
        for value in values:
            _range(layer, what, value, 1, _MATRIX[name].maximum, remedy)
    limit = -_MATRIX["origin_y"].minimum
    for value in (pad.top, pad.left):
        _range(layer, "padding", value, 0, limit, "use less padding")
    # Behind the tensor windows begin up to that far from its last pixel, or the beat with it.
    limit = _MATRIX["origin_y"].maximum - 1
    for value in (pad.bottom, pad.right):
        _range(layer, "padding", value, 0, limit, "use less padding")


def _check_requantization(
    layer: str, requantization: Requantization, channels: int, config: AcceleratorConfig
) -> None:
    multiplier, shift = requantization.multiplier, requantization.shift
    if multiplier.shape != (channels,) or shift.shape != (channels,):
        raise CompileError(layer, f"multiplier has shape {multiplier.shape}, shift {shift.shape}",
                           f"both need one entry for each of {channels} output channels")
    for value in (multiplier.min(), multiplier.max()):
        _range(layer, "requantization multiplier", int(value), 0, (1 << config.multiplier_bits) - 1,
               f"round the scale to fewer bits, or compile for a configuration with a larger "
               f"multiplier_bits than {config.multiplier_bits}")
    low = config.multiplier_bits if requantization.rounding is Rounding.GEMMLOWP else 0
    for value in (shift.min(), shift.max()):
        _range(layer, f"requantization shift (rounding {requantization.rounding.name})", int(value),
               low, MAX_SHIFT, "choose multiplier and shift so that the shift is in that range")
    _range(layer, "zero point", requantization.zero_point, INT8_MIN, INT8_MAX)
    _check_clip(layer, requantization.clip_min, requantization.clip_max)


def _check_accumulators(operation: Operation) -> None:
    """Check that no sum, complete or partial, can leave int32."""
    remedy = "use smaller weights, fewer input channels, a smaller window or a smaller bias"
    positive, negative = _weight_sums(operation)
    extreme = positive + negative
    bias = operation.bias
    for what, low, high in (
        ("the bias with the zero point folded in", bias, bias),
        ("a partial sum", -extreme * 128, extreme * 128),
        ("an accumulator", bias + positive * INT8_MIN - negative * INT8_MAX,
         bias + positive * INT8_MAX - negative * INT8_MIN),
    ):
        worst = int(low.min()), int(high.max())
        if worst[0] < INT32_MIN or worst[1] > INT32_MAX:
            raise CompileError(operation.name, f"{what} can reach {worst[0]} to {worst[1]}, which "
                               "is not int32", remedy)


def _weight_sums(operation: Operation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return per channel the sums of positive and of negated negative weights."""
    if operation.weight is not None:
        flat = operation.weight.reshape(len(operation.weight), -1).astype(np.int64)
        return np.maximum(flat, 0).sum(1), np.maximum(-flat, 0).sum(1)
    count = 1
    if operation.reduction is Reduction.SUM:
        count = operation.window.kernel[0] * operation.window.kernel[1]
    return np.full(1, count, np.int64), np.zeros(1, np.int64)
