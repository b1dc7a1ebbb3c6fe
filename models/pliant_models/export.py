"""A quantized model as an integer graph, and its own integers to compare the graph with.

Both come from the model in float64, where every product and sum of the native contract (see
:mod:`pliant_models.quantizers`) is exact; float32 is not enough.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from brevitas.quant_tensor import IntQuantTensor
from numpy.typing import NDArray
from torch import fx, nn

from pliant.compiler import graph as ir
from pliant.compiler.graph import Graph, GraphError, Node, Requantization, Tensor
from pliant.spec.numerics import INT8_MAX, INT8_MIN, MAX_SHIFT
from pliant_models.images import SHAPE, check_images, input_sizes
from pliant_models.layers import (
    AveragePool,
    Clamp,
    QuantDeformableConv2d,
    SelectChannels,
    Sigmoid,
    Sum,
    Upsample,
)
from pliant_models.operators import pair
from pliant_models.quantize import TENSOR

MAX_ADD_MULTIPLIER_SHIFT = 7
"""Additions multiply by at most 2**7 (a signed field of 9 bits)."""

MAX_ADD_SHIFT = 31

MAX_MULTIPLIER = (1 << 31) - 1
"""The widest requantization multiplier of any configuration."""


def export(model: fx.GraphModule, *, name: str) -> Graph:
    """Return the integer graph of a calibrated or trained quantized model.

    Tensors are called like the layers that define them, see :func:`model_integers`.

    Raises
    ------
    GraphError
        Scales are so far apart that they do not fit the instructions, or they or weights are no
        numbers; the message names the layer.
    """
    exact = _float64(model)
    shapes = [node.meta[SHAPE] for node in exact.graph.nodes if node.op == "placeholder"]
    values = _run(exact, torch.zeros(1, *shapes[0], dtype=torch.float64))
    return _Exporter(exact, values).run(name)


def model_integers(
    model: fx.GraphModule, images: torch.Tensor, *, chunk: int = 64
) -> dict[str, NDArray[np.int8]]:
    """Return the integers of every layer of a quantized model evaluated in float64.

    Parameters
    ----------
    model : fx.GraphModule
        Calibrated or trained; left as it is.
    images : Tensor
        Real-valued input (images, channels, height, width).
    chunk : int
        Images evaluated at a time.

    Returns
    -------
    dict
        int8 (images, channels, height, width) by the names of the exported graph's tensors.

    Raises
    ------
    ValueError
        `images` are not what the model takes.
    """
    check_images("the batch", images, input_sizes(model))
    exact = _float64(model)
    nodes = [node for node in exact.graph.nodes if TENSOR in node.meta]
    parts: dict[str, list[NDArray[np.int8]]] = {node.meta[TENSOR]: [] for node in nodes}
    for batch in torch.split(images.double(), chunk):  # type: ignore[no-untyped-call]
        values = _run(exact, batch)
        for node in nodes:
            integers = _integers(values[node]).reshape(len(batch), *node.meta[SHAPE])
            parts[node.meta[TENSOR]].append(integers.astype(np.int8))
    return {tensor: np.concatenate(part) for tensor, part in parts.items()}


def input_integers(model: fx.GraphModule, images: torch.Tensor) -> NDArray[np.int8]:
    """Return the integers that the input quantizer makes of real-valued images, same shape.

    Its scale is a power of two, so that float32 yields what float64 does. Raises what
    :func:`model_integers` does.
    """
    check_images("the batch", images, input_sizes(model))
    first = next(node for node in model.graph.nodes if TENSOR in node.meta)
    assert first.args[0].op == "placeholder"
    with torch.no_grad():
        quantized = model.get_submodule(str(first.target))(images)
    return _integers(quantized).astype(np.int8)


def _float64(model: fx.GraphModule) -> fx.GraphModule:
    exact: fx.GraphModule = copy.deepcopy(model).double().eval()
    return exact


class _Recorder(fx.Interpreter):
    """Runs a model and keeps the value of every node."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def _run(model: fx.GraphModule, images: torch.Tensor) -> dict[fx.Node, Any]:
    recorder = _Recorder(model)
    with torch.no_grad():
        recorder.run(images)
    return recorder.values


def _integers(value: IntQuantTensor) -> NDArray[np.int64]:
    """Return the integers of a quantized float64 tensor; its values lie on the grid."""
    quotient = (value.value / value.scale + value.zero_point).numpy()
    integers: NDArray[np.int64] = quotient.astype(np.int64)
    assert np.array_equal(integers, quotient), "a value lies off the grid of its scale"
    return integers


class _Exporter:
    """Turns the nodes of a float64 quantized model, evaluated once, into graph nodes."""

    def __init__(self, model: fx.GraphModule, values: dict[fx.Node, Any]) -> None:
        self._model = model
        self._values = values
        self._modules = dict(model.named_modules())
        self._tensors: dict[fx.Node, Tensor] = {}

    def run(self, name: str) -> Graph:
        """Return the graph."""
        inputs, nodes, outputs = [], [], []
        for node in self._model.graph.nodes:
            module = self._module(node)
            if TENSOR in node.meta:
                value = self._values[node]
                if not 0 < float(value.scale) < math.inf:
                    raise GraphError(f"tensor {node.meta[TENSOR]!r} has scale {float(value.scale)}"
                                     "; calibrate the model, or train it again")
                tensor = Tensor(name=node.meta[TENSOR], shape=node.meta[SHAPE],
                                scale=float(value.scale), zero_point=int(value.zero_point))
                self._tensors[node] = tensor
                if node.args[0].op == "placeholder":
                    inputs.append(tensor)
                else:
                    nodes.append(self._node(node, tensor))
            elif isinstance(module, nn.Flatten):
                self._tensors[node] = self._tensors[node.args[0]]
            elif node.op == "output":
                outputs = [self._tensors[real.args[0]].name for real in node.all_input_nodes]
        return Graph(name=name, inputs=tuple(inputs), nodes=tuple(nodes), outputs=tuple(outputs))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def _node(self, node: fx.Node, tensor: Tensor) -> Node:
        """Return the graph node that defines `tensor`, the value of `node`."""
        module = self._module(node)
        if isinstance(module, nn.MaxPool2d):
            return self._max_pool(module, node, tensor)
        if isinstance(module, Clamp):
            low, high = _clip_range(module.minimum, module.maximum, tensor.scale)
            return ir.Clip(name=tensor.name, inputs=(self._input(node).name,), output=tensor,
                           clip_min=low, clip_max=high)
        if isinstance(module, SelectChannels):
            return ir.SelectChannels(
                name=tensor.name, inputs=self._inputs(node), output=tensor,
                channels=module.channels.numpy())
        if isinstance(module, Upsample):
            return ir.Upsample(name=tensor.name, inputs=self._inputs(node), output=tensor)
        if isinstance(module, Sigmoid):
            return ir.Lookup(name=tensor.name, inputs=self._inputs(node), output=tensor,
                             table=self._table(module, node))
        assert isinstance(module, QuantIdentity), module
        source = node.args[0]
        assert isinstance(source, fx.Node)
        low, high = INT8_MIN, INT8_MAX
        activation = self._module(source)
        if isinstance(activation, (nn.ReLU, nn.Hardtanh)):
            bounds = ((0.0, math.inf) if isinstance(activation, nn.ReLU)
                      else (activation.min_val, activation.max_val))
            low, high = _clip_range(*bounds, tensor.scale)
            assert isinstance(source.args[0], fx.Node)
            source = source.args[0]
        layer = self._module(source)
        if isinstance(layer, (QuantConv2d, QuantLinear)):
            return self._convolution(layer, source, tensor, low, high)
        if isinstance(layer, AveragePool):
            return self._average_pool(layer, source, tensor, low, high)
        assert isinstance(layer, Sum), layer
        return self._add(source, tensor, low, high)

    def _input(self, node: fx.Node, index: int = 0) -> Tensor:
        operand = node.args[index]
        assert isinstance(operand, fx.Node)
        return self._tensors[operand]

    def _inputs(self, node: fx.Node) -> tuple[str, ...]:
        return tuple(self._input(node, index).name for index in range(len(node.args)))

    def _table(self, module: nn.Module, node: fx.Node) -> NDArray[np.int8]:
        """Return what a pointwise layer makes of every int8, in the order of ``x & 255``."""
        operand = self._values[node.all_input_nodes[0]]
        integers = torch.arange(256).to(torch.uint8).view(torch.int8).double()
        return _integers(module(operand.set(value=integers * operand.scale))).astype(np.int8)

    def _convolution(
        self, layer: Any, node: fx.Node, tensor: Tensor, low: int, high: int
    ) -> Node:
        source, operand = self._input(node), node.args[0]
        assert isinstance(operand, fx.Node)
        for name, values in layer.named_parameters(recurse=False):
            if not values.isfinite().all():
                raise GraphError(f"layer {tensor.name!r}: its {name} holds values that are "
                                 "infinite or no numbers; train it again")
        with torch.no_grad():
            weight = layer.quant_weight()
            bias = np.zeros(tensor.shape[0], np.int64)
            if layer.bias is not None:
                bias = _integers(layer.bias_quant(layer.bias, self._values[operand], weight))
        integers = _integers(weight)
        if isinstance(layer, QuantLinear):
            integers = integers.reshape(-1, *source.shape)
            window: dict[str, Any] = {}
        else:
            rows, columns = layer.padding
            window = {
                "stride": tuple(layer.stride), "dilation": tuple(layer.dilation),
                "padding": ir.Padding(top=rows, left=columns, bottom=rows, right=columns),
            }
        scales = weight.scale.reshape(-1).numpy() * source.scale / tensor.scale
        kind: Callable[..., Node] = ir.Convolution
        if isinstance(layer, QuantDeformableConv2d):
            kind = functools.partial(ir.DeformableConvolution, sampling=layer.taps.sampling,
                                     groups=layer.groups)
        elif isinstance(layer, QuantConv2d) and layer.groups > 1:
            kind, integers = ir.DepthwiseConvolution, integers.squeeze(1)
        return kind(
            name=tensor.name, inputs=self._inputs(node), output=tensor,
            weight=integers.astype(np.int8), bias=bias.astype(np.int32),
            requantization=requantization(tensor.name, scales, low, high), **window)

    def _average_pool(
        self, layer: AveragePool, node: fx.Node, tensor: Tensor, low: int, high: int
    ) -> Node:
        source = self._input(node)
        scales = np.full(tensor.shape[0], layer.reciprocal * source.scale / tensor.scale)
        rows, columns = layer.padding
        return ir.AveragePool(
            name=tensor.name, inputs=(source.name,), output=tensor, kernel=layer.kernel,
            stride=layer.stride, requantization=requantization(tensor.name, scales, low, high),
            padding=ir.Padding(top=rows, left=columns, bottom=rows, right=columns))

    def _max_pool(self, layer: nn.MaxPool2d, node: fx.Node, tensor: Tensor) -> Node:
        """Return the pool; ceil_mode becomes padding at the bottom and right."""
        source = self._input(node)
        kernel, stride = pair(layer.kernel_size), pair(layer.stride)
        dilation, before = pair(layer.dilation), pair(layer.padding)
        after = [max(0, (tensor.shape[1 + axis] - 1) * stride[axis] + 1
                     + dilation[axis] * (kernel[axis] - 1) - source.shape[1 + axis] - before[axis])
                 for axis in (0, 1)]
        return ir.MaxPool(
            name=tensor.name, inputs=(source.name,), output=tensor, kernel=kernel, stride=stride,
            dilation=dilation,
            padding=ir.Padding(top=before[0], left=before[1], bottom=after[0], right=after[1]))

    def _add(self, node: fx.Node, tensor: Tensor, low: int, high: int) -> Node:
        operands = self._input(node, 0), self._input(node, 1)
        exponents = [_exponent(operand.scale / tensor.scale) for operand in operands]
        shift = max(0, -min(exponents))
        if max(exponents) + shift > MAX_ADD_MULTIPLIER_SHIFT or shift > MAX_ADD_SHIFT:
            scales = ", ".join(str(operand.scale) for operand in operands)
            raise GraphError(f"layer {tensor.name!r} adds scales {scales} to {tensor.scale}; they "
                             f"may differ by a factor of up to 2**{MAX_ADD_MULTIPLIER_SHIFT}; "
                             "calibrate or train the model so that they come closer")
        first, second = (1 << exponent + shift for exponent in exponents)
        return ir.Add(name=tensor.name, inputs=(operands[0].name, operands[1].name),
                      output=tensor, multipliers=(first, second), offset=0, shift=shift,
                      clip_min=low, clip_max=high)


def requantization(
    layer: str, scales: NDArray[np.float64], clip_min: int, clip_max: int
) -> Requantization:
    """Return the exact integer form of dyadic scales (accumulator / output), half-even.

    Raises
    ------
    GraphError
        A scale is too large for a multiplier of 31 bits.
    """
    pairs = [_multiplier_and_shift(layer, float(scale)) for scale in scales]
    multiplier, shift = np.array(pairs, np.int64).reshape(-1, 2).T
    return Requantization(multiplier=multiplier, shift=shift, clip_min=clip_min,
                          clip_max=clip_max)


def _multiplier_and_shift(layer: str, scale: float) -> tuple[int, int]:
    multiplier, denominator = scale.as_integer_ratio()
    shift = denominator.bit_length() - 1
    if multiplier > MAX_MULTIPLIER:
        raise GraphError(f"layer {layer!r}: scale {scale} from accumulator to output is not below "
                         "2**31; its output quantizer is not calibrated")
    if shift > MAX_SHIFT:
        return 0, 0  # |int32 * multiplier| <= 2**62, at most half of 2**shift: rounds to 0
    return multiplier, shift


def _exponent(power: float) -> int:
    mantissa, exponent = math.frexp(power)
    assert mantissa == 0.5, f"{power} is not a power of two"
    return exponent - 1


def _clip_range(minimum: float, maximum: float, scale: float) -> tuple[int, int]:
    """Return real bounds as integers, rounded half to even and kept within int8."""

    def bound(value: float) -> int:
        quotient = value / scale
        return round(min(max(quotient, INT8_MIN), INT8_MAX))

    return bound(minimum), bound(maximum)
