"""Lowers every graph node to an :class:`Operation`, folding input zero points into biases."""

from __future__ import annotations

import dataclasses

import numpy as np

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
    Tensor,
    Upsample,
)
from pliant.compiler.operation import Operation, Reduction, ResidualAdd, Window, identity
from pliant.compiler.pieces import dense_weights
from pliant.compiler.reference import graph_macs
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Matrix, fields
from pliant.spec.memory import ceil_div
from pliant.spec.numerics import INT8_MIN, Rounding
from pliant.spec.sampling import Offsets

MAX_STRIDE = next(field.maximum for field in fields(Matrix) if field.name == "stride_y")
"""Rows or columns between outputs that instructions can name."""


def lower(graph: Graph, config: AcceleratorConfig) -> Graph:
    """Return `graph` with one Operation in place of every node but SelectChannels.

    A convolution's ``sum(w * (x - zero point))`` becomes ``sum(w * x) + bias'`` with padding that
    reads as the zero point; average pooling likewise.
    """
    tensors = graph.tensors()
    nodes = tuple(node if isinstance(node, SelectChannels)
                  else _lower(node, tensors[node.inputs[0]], config) for node in graph.nodes)
    return graph.replace(nodes=nodes)


def _lower(node: Node, source: Tensor, config: AcceleratorConfig) -> Operation:
    channels = node.output.shape[0]
    unchanged = Operation(
        name=node.name, inputs=node.inputs, output=node.output, reduction=Reduction.SUM,
        window=Window(), weight=None, bias=np.zeros(channels, np.int64),
        requantization=identity(channels), layers=(node.name,),
        macs=graph_macs(node, source.shape),
    )
    if isinstance(node, (Convolution, DeformableConvolution, DepthwiseConvolution)):
        height, width = node.weight.shape[-2:]
        window = Window(
            kernel=(height, width), stride=_stride(node), dilation=node.dilation,
            padding=node.padding, pad_value=source.zero_point)
        weight_sum = node.weight.reshape(channels, -1).astype(np.int64).sum(axis=1)
        if isinstance(node, DepthwiseConvolution):
            reduction, weight = Reduction.DEPTHWISE, node.weight
        elif isinstance(node, DeformableConvolution) and _for_post_unit(node, config):
            reduction, weight = Reduction.DEPTHWISE, node.weight[:, 0]
        else:
            reduction, weight = Reduction.CONVOLUTION, dense_weights(node.weight, node.groups)
        return dataclasses.replace(
            unchanged, reduction=reduction, window=window, weight=weight,
            bias=node.bias.astype(np.int64) - source.zero_point * weight_sum,
            requantization=node.requantization,
            sampling=node.sampling if isinstance(node, DeformableConvolution) else None)
    if isinstance(node, AveragePool):
        window = Window(kernel=node.kernel, stride=_stride(node), padding=node.padding,
                        pad_value=source.zero_point)
        count = node.kernel[0] * node.kernel[1]
        return dataclasses.replace(
            unchanged, window=window, requantization=node.requantization,
            bias=np.full(channels, -count * source.zero_point, np.int64))
    if isinstance(node, MaxPool):
        window = Window(kernel=node.kernel, stride=_stride(node), dilation=node.dilation,
                        padding=node.padding, pad_value=INT8_MIN)
        return dataclasses.replace(unchanged, reduction=Reduction.MAXIMUM, window=window)
    if isinstance(node, Add):
        return _lower_add(node, unchanged, config)
    if isinstance(node, Lookup):
        return dataclasses.replace(unchanged, table=node.table)
    if isinstance(node, Upsample):
        return dataclasses.replace(unchanged, upsample=True)
    assert isinstance(node, Clip)
    bounds = dataclasses.replace(
        unchanged.requantization, clip_min=node.clip_min, clip_max=node.clip_max)
    return dataclasses.replace(unchanged, requantization=bounds)


def _for_post_unit(node: DeformableConvolution, config: AcceleratorConfig) -> bool:
    """Whether the post unit can compute a deformable convolution, which then is faster there.

    It takes nearest pixels, channel by channel, without masks, and holds a pixel's offsets; a
    window's taps must fit their buffer. The matrix unit computes all others.
    """
    sampling, (height, width) = node.sampling, node.weight.shape[-2:]
    offsets = ceil_div(sampling.offset_channels((height, width)), config.lanes)
    return (node.weight.shape[:2] == (node.groups, 1) and not sampling.interpolate
            and sampling.offsets is not Offsets.MODULATED and offsets <= config.displaced_groups
            and height * width <= config.tap_depth)


def _stride(
    node: Convolution | DeformableConvolution | DepthwiseConvolution | AveragePool | MaxPool,
) -> tuple[int, int]:
    """Return the stride of a window; along an axis with one output it need not pass the field."""
    y, x = (min(step, MAX_STRIDE) if size == 1 else step
            for step, size in zip(node.stride, node.output.shape[1:], strict=True))
    return y, x


def _lower_add(node: Add, unchanged: Operation, config: AcceleratorConfig) -> Operation:
    """Lower an addition: the first operand passes unchanged, the second is the residual.

    One field sets the rounding of requantization and addition. Gemmlowp's requantization at least
    halves (its shift is wider than its multiplier), so weights of 2 double the value first.
    """
    residual = ResidualAdd(
        multiplier=node.multipliers[0], residual_multiplier=node.multipliers[1],
        offset=node.offset, shift=node.shift, rounding=node.rounding,
        zero_point=node.output.zero_point, clip_min=node.clip_min, clip_max=node.clip_max)
    lowered = dataclasses.replace(unchanged, residual=residual)
    channels = node.output.shape[0]
    if node.rounding is not Rounding.GEMMLOWP:
        return dataclasses.replace(
            lowered, requantization=identity(channels, node.rounding))
    bits = config.multiplier_bits
    halve = Requantization(
        multiplier=np.full(channels, 1 << (bits - 1), np.int64),
        shift=np.full(channels, bits, np.int64), rounding=Rounding.GEMMLOWP)
    return dataclasses.replace(
        lowered, reduction=Reduction.DEPTHWISE, weight=np.full((channels, 1, 1), 2, np.int8),
        requantization=halve)
