"""A float model rewritten into a trainable quantized one, made of Brevitas layers.

Every tensor between layers becomes int8: a quantizer stands behind each input, and behind each
convolution, linear layer, addition and average pool together with the activation that follows it.
Other layers (max pooling, flattening, moving channels, an activation on its own) map int8 to int8.
Tensors that are joined share one quantizer (:mod:`pliant_models.scales`).
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from pliant_models import channels, operators
from pliant_models.capture import (
    UnsupportedLayer,
    UnsupportedLayerError,
    aten,
    capture,
    layer_name,
    shape,
    unsupported,
)
from pliant_models.channels import Channels
from pliant_models.images import SHAPE, check_images, input_sizes
from pliant_models.layers import AveragePool, Clamp, SelectChannels, Sigmoid, Sum, real
from pliant_models.quantizers import (
    WEIGHT_QUANTIZERS,
    ActivationQuantizer,
    constant_activation_quantizer,
)
from pliant_models.scales import ScaleGroups, widest_range

TENSOR = "tensor"
"""Metadata of nodes that yield an int8 tensor: its name, that of its layer."""

ACCUMULATING = (QuantConv2d, QuantLinear, Sum, AveragePool)
"""Layers whose results are wider than int8 and are quantized next."""


def quantize(
    model: nn.Module, example: Tensor, *, input_scale: float | None = None, weight_bits: int = 8,
    layer_bits: Mapping[str, int] | None = None,
) -> fx.GraphModule:
    """Return a trainable quantized copy of a float model, to be calibrated and fine-tuned.

    Parameters
    ----------
    model : nn.Module
        Float model with one input; batch norms are folded with their running statistics.
    example : Tensor
        One or more images (images, channels, height, width), for tracing.
    input_scale : float, optional
        Fixed scale of the int8 input, a power of two; calibrated and learned if not given.
    weight_bits : int
        8, or 4 for half the traffic of weights. Depthwise weights have 8 in any case: the machine
        holds them as bytes.
    layer_bits : mapping of int, optional
        Bits of the weights of single layers by name, depthwise ones included. First and last layers
        often need 8.

    Raises
    ------
    ValueError
        The example is no image, weights are of other than 4 or 8 bits, or a layer in `layer_bits`
        has no weights.
    CaptureError
        The model cannot be traced.
    UnsupportedLayerError
        Names every layer that cannot be quantized, the reason and the remedy.
    """
    check_images("the example", example)
    source = capture(model, example)
    _set_weight_bits(source, weight_bits, layer_bits or {})
    layers: dict[fx.Node, nn.Module] = {}
    errors = []
    for node in source.graph.nodes:
        if (node.op == "call_function" and node.target is not aten.sym_size.int
                and not channels.moves_channels(node)):
            try:
                layers[node] = operators.build(source, node)
            except UnsupportedLayerError as error:
                errors += error.layers
    if errors:
        raise UnsupportedLayerError(errors)
    return _Rewriter(source, layers, input_scale).run()


def calibrate(model: fx.GraphModule, batches: Iterable[Tensor]) -> None:
    """Set the scales of activations from float images; leaves the model in evaluation mode.

    Raises
    ------
    ValueError
        There are no images, or a batch holds something else.
    """
    batches = list(batches)
    if not batches:
        raise ValueError("there are no images to calibrate with")
    channels, *_ = input_sizes(model)
    for index, batch in enumerate(batches):
        check_images(f"batch {index}", batch, (channels, "height", "width"))
    with warnings.catch_warnings():  # brevitas.graph warns of a package that is not needed here
        warnings.simplefilter("ignore")
        from brevitas.graph.calibrate import calibration_mode
    model.eval()
    with torch.no_grad(), calibration_mode(model), widest_range(model, len(batches)):
        for batch in batches:
            model(batch.float())
    model.eval()


def _set_weight_bits(
    source: fx.GraphModule, weight_bits: int, layer_bits: Mapping[str, int]
) -> None:
    """Note the bits of each layer's weights where `operators.build` finds them."""
    for bits in (weight_bits, *layer_bits.values()):
        if bits not in WEIGHT_QUANTIZERS:
            allowed = " or ".join(str(known) for known in sorted(WEIGHT_QUANTIZERS))
            raise ValueError(f"weights of {bits} bits: they must have {allowed}")
    nodes = [node for node in source.graph.nodes if operators.has_weights(node)]
    names = {layer_name(node) for node in nodes}
    unknown = ", ".join(repr(name) for name in sorted(set(layer_bits) - names))
    if unknown:
        raise ValueError(f"no layer with weights is called {unknown}; there are "
                         f"{', '.join(sorted(names))}")
    for node in nodes:
        default = 8 if operators.is_depthwise(node) else weight_bits
        node.meta[operators.WEIGHT_BITS] = layer_bits.get(layer_name(node), default)


class _Rewriter:
    """Connects quantized layers as `source` connects its operators, with quantizers between."""

    def __init__(
        self, source: fx.GraphModule, layers: dict[fx.Node, nn.Module], input_scale: float | None
    ) -> None:
        self._source = source
        self._layers = layers
        self._scales = ScaleGroups(source.graph, self._keeps_scale, input_scale)
        self._quantizers: dict[fx.Node, str] = {}
        self._graph = fx.Graph()
        self._root = nn.Module()
        self._values: dict[fx.Node, fx.Node] = {}
        self._moved: dict[fx.Node, Channels | list[Channels]] = {}
        self._tensors: list[fx.Node] = []
        self._names: set[str] = set()

    def run(self) -> fx.GraphModule:
        """Return the quantized model."""
        for node in self._source.graph.nodes:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "output":
                self._output(node)
            elif node in self._layers and node not in self._values:
                self._layer(node)
            elif node.op == "call_function" and channels.moves_channels(node):
                sources = [self._channels(source, node) for source in channels.operands(node)]
                self._moved[node] = channels.moved(node, sources)
        return fx.GraphModule(self._root, self._graph, class_name="QuantizedModel")

    def _input(self, node: fx.Node) -> None:
        value = self._graph.placeholder(node.name)
        value.meta[SHAPE] = shape(node)
        name = self._unique(node.name)
        self._values[node] = self._quantize(value, name, node)

    def _keeps_scale(self, node: fx.Node) -> bool:
        return node in self._layers and not isinstance(self._layers[node],
                                                       (*ACCUMULATING, Sigmoid))

    def _channels(self, node: fx.Node, reader: fx.Node) -> Channels | list[Channels]:
        """Return which channels a value consists of; the sources are indices of `_tensors`."""
        if node not in self._moved:
            count = shape(node)[0]
            image = self._values[node].meta[SHAPE]
            if count != image[0]:
                size = "x".join(map(str, image))
                raise unsupported(reader, f"it moves values of flattened {size} images",
                                  "move channels before flattening")
            source = np.full(count, len(self._tensors), np.int64)
            self._tensors.append(self._values[node])
            self._moved[node] = np.stack([source, np.arange(count)], axis=1)
        return self._moved[node]

    def _value(self, node: fx.Node) -> fx.Node:
        """Return the value of a source node, its channels selected if they were only moved."""
        if node not in self._values:
            moved = self._moved[node]
            assert isinstance(moved, np.ndarray)
            self._values[node] = self._select(node, moved)
        return self._values[node]

    def _select(self, node: fx.Node, moved: Channels) -> fx.Node:
        sources, index = np.unique(moved[:, 0], return_inverse=True)
        tensors: list[fx.Node] = [self._tensors[source] for source in sources]
        sizes = [tensor.meta[SHAPE][0] for tensor in tensors]
        selected = np.stack([index.reshape(-1), moved[:, 1]], axis=1)
        if len(sizes) == 1 and np.array_equal(moved[:, 1], np.arange(sizes[0])):
            return tensors[0]
        named = channels.operands(node)[0] if node.target is operator.getitem else node
        name = self._unique(layer_name(named))
        value = self._call(SelectChannels(torch.from_numpy(selected), sizes), name, tensors,
                           _pixels(shape(node)))
        value.meta[TENSOR] = name
        return value

    def _layer(self, node: fx.Node) -> None:
        layer, name = self._layers[node], self._unique(layer_name(node))
        operands = [self._value(argument) for argument in node.args
                    if isinstance(argument, fx.Node)
                    and (argument in self._values or argument in self._moved)]
        value = self._call(layer, name, operands, _image_shape(layer, node, operands))
        last = node
        if isinstance(layer, ACCUMULATING):
            activation = self._fusable_activation(node)
            if activation is not None:
                last = activation
                value = self._call(_float_activation(self._layers[last]), f"{name}.act", [value])
            value = self._quantize(value, name, node)
        elif not isinstance(layer, nn.Flatten):
            value.meta[TENSOR] = name
        if isinstance(layer, AveragePool) and len(shape(node)) == 1:  # mean without keepdim
            value = self._call(nn.Flatten(), f"{name}.flatten", [value])
        self._values[node] = self._values[last] = value

    def _output(self, node: fx.Node) -> None:
        returned = [leaf for leaf in tree_leaves(node.args) if isinstance(leaf, fx.Node)]
        results = [self._value(argument) for argument in returned]
        names = list(map(_tensor_of, results))
        inputs = {node.name for node in self._source.graph.nodes if node.op == "placeholder"}
        for name in names:
            if name in inputs:
                raise _returned(name, "the model returns its input", "return computed values alone")
            if names.count(name) > 1:
                raise _returned(name, "the model returns its result more than once",
                                "return it once")
        values = tuple(self._graph.call_function(real, (result,)) for result in results)
        self._graph.output(values[0] if len(values) == 1 else values)

    def _fusable_activation(self, node: fx.Node) -> fx.Node | None:
        """Return the activation that alone reads `node`, if there is one."""
        users = list(node.users)
        if len(users) == 1 and isinstance(self._layers.get(users[0]), Clamp):
            return users[0]
        return None

    def _quantize(self, value: fx.Node, name: str, node: fx.Node) -> fx.Node:
        """Return `value`, that of the source node, quantized as all values of its scale are."""
        group, scale = self._scales.group(node), self._scales.fixed_scale(node)
        if group not in self._quantizers:
            quantizer = ActivationQuantizer if scale is None else constant_activation_quantizer(
                scale)
            layer = QuantIdentity(act_quant=quantizer, return_quant_tensor=True)
            self._quantizers[group] = self._add(layer, f"{name}.quant")
        result: fx.Node = self._graph.call_module(self._quantizers[group], (value,))
        result.meta.update({SHAPE: value.meta[SHAPE], TENSOR: name})
        return result

    def _call(
        self,
        layer: nn.Module,
        name: str,
        operands: list[fx.Node],
        image_shape: tuple[int, ...] | None = None,
    ) -> fx.Node:
        node = self._graph.call_module(self._add(layer, name), tuple(operands))
        node.meta[SHAPE] = operands[0].meta[SHAPE] if image_shape is None else image_shape
        return node

    def _add(self, layer: nn.Module, name: str) -> str:
        """Add a layer to the model; return its name there, which nothing else has."""
        target = name.replace(".", "_")
        while hasattr(self._root, target):  # "a.b" beside "a_b", or a method of torch's modules
            target += "_"
        self._root.add_module(target, layer)
        return target

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            unique, count = f"{name}_{count}", count + 1
        self._names.add(unique)
        return unique


def _image_shape(
    layer: nn.Module, node: fx.Node, operands: list[fx.Node]
) -> tuple[int, ...]:
    if len(shape(node)) == 3:
        return shape(node)
    if isinstance(layer, (QuantLinear, AveragePool)):
        return _pixels(shape(node))
    kept: tuple[int, ...] = operands[0].meta[SHAPE]
    return kept


def _tensor_of(value: fx.Node) -> str:
    """Return the name of the tensor that a value is, flattened or not."""
    while TENSOR not in value.meta:
        value = value.all_input_nodes[0]
    name: str = value.meta[TENSOR]
    return name


def _returned(name: str, reason: str, remedy: str) -> UnsupportedLayerError:
    return UnsupportedLayerError([UnsupportedLayer(name, "output", reason, remedy)])


def _pixels(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an image; features are one pixel."""
    return sizes if len(sizes) == 3 else (*sizes, 1, 1)


def _float_activation(layer: nn.Module) -> nn.Module:
    """Return the activation that stands between an accumulating layer and its quantizer."""
    assert isinstance(layer, Clamp)
    if (layer.minimum, layer.maximum) == (0.0, math.inf):
        return nn.ReLU()
    return nn.Hardtanh(layer.minimum, layer.maximum)
