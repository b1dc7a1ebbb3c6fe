"""The torch operators that can be quantized, and the quantized layer that each becomes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from brevitas.nn import QuantConv2d, QuantLinear
from torch import fx, nn

from pliant.compiler.reference import output_size
from pliant.spec.sampling import Offsets
from pliant_models import channels
from pliant_models.capture import arguments, aten, parameter, shape, unsupported
from pliant_models.deformable import DEFORMABLE_CONVOLUTION, taps_of
from pliant_models.layers import (
    AveragePool,
    Clamp,
    QuantDeformableConv2d,
    Sigmoid,
    Sum,
    Upsample,
)
from pliant_models.quantizers import WEIGHT_QUANTIZERS, BiasQuantizer

Builder = Callable[[fx.GraphModule, fx.Node], nn.Module]

WEIGHT_BITS = "weight_bits"
"""Metadata of nodes: bits of the layer's weights, 8 where there is none; 4 are for dense layers."""


def build(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    """Return the quantized layer of an operator node, its weights copied.

    Raises
    ------
    UnsupportedLayerError
        Names the layer, the reason and the remedy.
    """
    builder = BUILDERS.get(node.target)
    if builder is None:
        raise unsupported(
            node, "the accelerator has no such operator",
            f"rewrite the layer with supported ones: {', '.join(supported_operators())}")
    return builder(module, node)


def supported_operators() -> list[str]:
    """Return the names of the supported torch operators, sorted."""
    names = {operator._schema.name.split("::")[1].rstrip("_")
             for operator in (*BUILDERS, *channels.OPERATORS)}
    return sorted(names)


def has_weights(node: fx.Node) -> bool:
    """Return whether an operator multiplies by weights."""
    return BUILDERS.get(node.target) in (_convolution, _deformable_convolution, _linear)


def is_depthwise(node: fx.Node) -> bool:
    """Return whether an operator with weights reads one input channel for each output channel."""
    groups = arguments(node).get("groups", 1)
    return bool(1 < groups == shape(node)[0] == shape(node.all_input_nodes[0])[0])


def _quantizers(node: fx.Node) -> dict[str, Any]:
    weight_quantizer = WEIGHT_QUANTIZERS[node.meta.get(WEIGHT_BITS, 8)]
    return {"weight_quant": weight_quantizer, "bias_quant": BiasQuantizer}


def _convolution(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    weight, bias = _weights(module, node, given)
    groups = int(given["groups"])
    depthwise = groups == weight.shape[0] and weight.shape[1] == 1
    if groups != 1 and not depthwise:
        raise unsupported(
            node, f"convolution of {groups * weight.shape[1]} to {weight.shape[0]} channels in "
            f"{groups} groups, the accelerator's are dense or depthwise",
            "use groups=1 (a grouped layer's weights with zeros between the groups compute the "
            "same), or as many groups as input and output channels")
    kernel, dilation = (int(weight.shape[2]), int(weight.shape[3])), pair(given["dilation"])
    layer = QuantConv2d(
        groups * weight.shape[1], weight.shape[0], kernel, stride=pair(given["stride"]),
        dilation=dilation, padding=_padding(node, given["padding"], kernel, dilation),
        groups=groups, bias=bias is not None, **_quantizers(node))
    return _with_weights(layer, weight, bias)


def _deformable_convolution(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    weight, bias = _weights(module, node, given)
    mode, fraction_bits, minimum, maximum, interpolate = (
        given[name] for name in ("mode", "fraction_bits", "minimum", "maximum", "interpolate"))
    taps = taps_of(weight, given["stride"], given["padding"], given["dilation"],
                   (mode, fraction_bits, minimum, maximum, interpolate))
    if taps.sampling.offsets is Offsets.MODULATED and (
            given["mask"].target is not aten.sigmoid.default):
        raise unsupported(node, "a mask that is no sigmoid", "apply torch.sigmoid to its logits")
    size = tuple(
        output_size(inputs, padding, padding, kernel, stride, dilation)
        for inputs, padding, kernel, stride, dilation in zip(
            shape(given["input"])[1:], taps.padding, taps.kernel, taps.stride, taps.dilation,
            strict=True))
    for name, count in (("offsets", taps.sampling.offset_channels(taps.kernel)),
                        ("mask", taps.sampling.mask_channels(taps.kernel))):
        if given[name] is not None and shape(given[name]) != (count, *size):
            raise unsupported(node, f"{name} of shape {shape(given[name])}",
                              f"give it {name} of shape {(count, *size)}")
    groups = int(given["groups"])
    layer = QuantDeformableConv2d(
        sampling=taps.sampling, in_channels=groups * weight.shape[1],
        out_channels=weight.shape[0], kernel_size=taps.kernel, stride=taps.stride,
        padding=taps.padding, dilation=taps.dilation, groups=groups, bias=bias is not None,
        **_quantizers(node))
    return _with_weights(layer, weight, bias)


def _sigmoid(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    if not all(user.target is DEFORMABLE_CONVOLUTION and arguments(user)["mask"] is node
               for user in node.users):
        raise unsupported(node, "a sigmoid that is no mask of a deformable convolution",
                          "leave it to the host: it keeps the order of the logits")
    return Sigmoid()


def _upsample(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    before, after = shape(node.all_input_nodes[0])[1:], shape(node)[1:]
    if after != (2 * before[0], 2 * before[1]):
        raise unsupported(node, f"resizes {before[0]}x{before[1]} to {after[0]}x{after[1]}",
                          "double the height and the width; several times, if need be")
    return Upsample()


def _padding(
    node: fx.Node, padding: Any, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    if padding == "valid":
        return (0, 0)
    if padding != "same":
        return pair(padding)
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(total % 2 for total in totals):
        raise unsupported(node, f"padding='same' of an even kernel {kernel} is asymmetric",
                          "use an odd kernel or symmetric padding given as numbers")
    return totals[0] // 2, totals[1] // 2


def _linear(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    weight, bias = _weights(module, node, arguments(node))
    if len(shape(node)) != 1:
        raise unsupported(node, f"linear layer over the last of {1 + len(shape(node))} dimensions",
                          "flatten to (images, features) before it, or use a 1x1 convolution")
    layer = QuantLinear(weight.shape[1], weight.shape[0], bias=bias is not None,
                        **_quantizers(node))
    return _with_weights(layer, weight, bias)


def _weights(module: fx.GraphModule, node: fx.Node, given: dict[str, Any]) -> tuple[Any, Any]:
    sources = [given["weight"]] + ([] if given["bias"] is None else [given["bias"]])
    if any(source.op != "get_attr" for source in sources):
        raise unsupported(node, "weights computed by the network",
                          "store them as parameters (remove weight parametrizations)")
    weight, *bias = (parameter(module, source) for source in sources)
    for name, values in zip(("weight", "bias"), (weight, *bias), strict=False):
        if not values.isfinite().all():
            raise unsupported(node, f"its {name} holds values that are infinite or no numbers",
                              "train it again, or load another checkpoint")
    return weight, bias[0] if bias else None


def _with_weights(layer: nn.Module, weight: Any, bias: Any) -> nn.Module:
    state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer.load_state_dict(state, strict=False)
    return layer


def _add(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    operands = (given["self"], given["other"])
    if any(not isinstance(operand, fx.Node) or operand.op == "get_attr" for operand in operands):
        raise unsupported(node, "addition of a constant",
                          "put it into the bias of the layer before")
    shapes = [shape(operand) for operand in operands]
    if shapes[0] != shapes[1]:
        raise unsupported(node, f"addition of shapes {shapes[0]} and {shapes[1]}",
                          "add tensors of equal shape")
    if given["alpha"] != 1:
        raise unsupported(node, f"addition with alpha={given['alpha']}", "use alpha=1")
    return Sum()


def _relu(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return Clamp(0.0, math.inf)


def _relu6(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return Clamp(0.0, 6.0)


def _clamp(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    low, high = (infinite if bound is None else float(bound) for bound, infinite in
                 ((given.get("min"), -math.inf), (given.get("max"), math.inf)))
    return Clamp(low, high)


def _hardtanh(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    return Clamp(float(given["min_val"]), float(given["max_val"]))


def _max_pool(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    kernel = pair(given["kernel_size"])
    return nn.MaxPool2d(kernel, pair(given["stride"], kernel), pair(given["padding"]),
                        pair(given["dilation"]), ceil_mode=given["ceil_mode"])


def _average_pool(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    kernel, padding = pair(given["kernel_size"]), pair(given["padding"])
    stride = pair(given["stride"], kernel)
    if given["divisor_override"] is not None:
        raise unsupported(node, f"divisor_override={given['divisor_override']}",
                          "divide by the window's size (leave divisor_override out)")
    if padding != (0, 0) and not given["count_include_pad"]:
        raise unsupported(node, "the divisor varies at the border (count_include_pad=False)",
                          "use count_include_pad=True or no padding")
    fits = [(size + 2 * pad - k) % step == 0 for size, pad, k, step in
            zip(shape(node.all_input_nodes[0])[1:], padding, kernel, stride, strict=True)]
    if given["ceil_mode"] and not all(fits):
        raise unsupported(node, "ceil_mode=True with windows that hang over the border",
                          "use ceil_mode=False")
    return AveragePool(kernel, stride, padding)


def _adaptive_average_pool(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    height, width = shape(node.all_input_nodes[0])[1:]
    rows, columns = pair(arguments(node)["output_size"])
    if height % rows or width % columns:
        raise unsupported(node, f"adaptive pooling of {height}x{width} to {rows}x{columns} has "
                          "windows of several sizes",
                          "choose an output size that divides the input's")
    kernel = height // rows, width // columns
    return AveragePool(kernel, kernel)


def _mean(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    given = arguments(node)
    source = shape(node.all_input_nodes[0])
    axes = sorted(axis % (len(source) + 1) for axis in given["dim"] or ())
    if len(source) != 3 or axes != [2, 3]:
        raise unsupported(node, f"mean over axes {given['dim']} of a tensor with "
                          f"{len(source) + 1} dimensions",
                          "take the mean over height and width, axes (2, 3)")
    return AveragePool(source[1:], source[1:])


def _flatten(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    before, after = shape(node.all_input_nodes[0]), shape(node)
    if after != (math.prod(before),):
        raise unsupported(node, f"reshapes {before} to {after}",
                          "only flattening to (images, features) is possible")
    return nn.Flatten()


def _batch_norm(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    raise unsupported(
        node, "batch norm that cannot be folded",
        "place it right behind a convolution or linear layer whose output nothing else reads")


def pair(value: Any, default: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return (rows, columns) of a torch argument: a number, a list of one or two, or none."""
    sizes = [value] if isinstance(value, int) else list(value)
    if not sizes:
        return default
    return int(sizes[0]), int(sizes[-1])


BUILDERS: dict[Any, Builder] = {
    aten.conv2d.default: _convolution,
    aten.conv2d.padding: _convolution,
    aten.linear.default: _linear,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.relu6.default: _relu6,
    aten.relu6_.default: _relu6,
    aten.clamp.default: _clamp,
    aten.clamp_.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: _clamp,
    aten.hardtanh.default: _hardtanh,
    aten.hardtanh_.default: _hardtanh,
    aten.max_pool2d.default: _max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_average_pool,
    aten.mean.dim: _mean,
    aten.flatten.using_ints: _flatten,
    aten.view.default: _flatten,
    aten.reshape.default: _flatten,
    aten.batch_norm.default: _batch_norm,
    aten.sigmoid.default: _sigmoid,
    aten.upsample_nearest2d.vec: _upsample,
    aten.upsample_nearest2d.default: _upsample,
    DEFORMABLE_CONVOLUTION: _deformable_convolution,
}
"""Supported operators. A new one needs a line here and, if its layer is new, one in `export`."""
