"""A float model as a flat graph of torch operators: exported, cleaned, batch norms folded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pliant_models.deformable import DEFORMABLE_CONVOLUTION

aten = torch.ops.aten

CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding, DEFORMABLE_CONVOLUTION)
LEAVES = ("torch.nn.", "pliant_models.deformable.")
"""Where the layers are from that call one operator."""

NO_OPERATIONS = (
    aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default,
    aten.alias.default, aten.clone.default, aten.contiguous.default, aten.detach.default,
)
"""They change nothing in inference. Fine-tuning runs without dropout."""


@dataclass(frozen=True)
class UnsupportedLayer:
    """A layer that cannot be quantized.

    `layer` is its path in the model, or the name of the graph node; `operation` the torch operator.
    """

    layer: str
    operation: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"layer {self.layer!r} ({self.operation}): {self.reason}; {self.remedy}"


class CaptureError(ValueError):
    """A model that `torch.export` cannot trace; the message has its reason."""


class UnsupportedLayerError(ValueError):
    """Layers that cannot be quantized, each with its reason and remedy, one to a line."""

    def __init__(self, layers: list[UnsupportedLayer]) -> None:
        super().__init__("\n".join(map(str, layers)))
        self.layers = layers


def capture(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return the inference graph of `model`: placeholders, parameters, torch operators, output.

    Batch norms are folded into the convolution or linear layer before them.

    Parameters
    ----------
    model : nn.Module
        Float model, left as it is.
    example : Tensor
        One or more images (images, channels, height, width); the graph takes any number.

    Raises
    ------
    CaptureError
        The model cannot be traced with the example.
    """
    batch = torch.cat([example, example]).float()  # one image would be taken for a constant
    try:
        with torch.no_grad():
            exported = torch.export.export(
                copy.deepcopy(model).float().eval(), (batch,),
                dynamic_shapes=({0: torch.export.Dim.AUTO},))
    except Exception as error:  # torch raises dozens of kinds
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise CaptureError(f"{type(model).__name__} cannot be traced with an example of shape "
                           f"{tuple(example.shape)}: {reason}") from error
    module = exported.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    remove_no_operations(module)
    fold_batch_norms(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def remove_no_operations(module: fx.GraphModule) -> None:
    """Remove operators that do nothing in inference."""
    for node in list(module.graph.nodes):
        if node.target in NO_OPERATIONS:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def fold_batch_norms(module: fx.GraphModule) -> None:
    """Fold every batch norm into the convolution or linear layer whose only user it is."""
    for node in list(module.graph.nodes):
        if node.target is not aten.batch_norm.default:
            continue
        source = node.args[0]
        if source.target not in (*CONVOLUTIONS, aten.linear.default) or len(source.users) != 1:
            continue
        _fold(module, source, arguments(node))
        node.replace_all_uses_with(source)
        module.graph.erase_node(node)


def _fold(module: fx.GraphModule, layer: fx.Node, norm: dict[str, Any]) -> None:
    """Give `layer` (convolution or linear) the weights that include the batch norm."""

    def tensor(node: fx.Node | None, default: float) -> Tensor:
        if node is None:
            return torch.full_like(mean, default)
        return parameter(module, node).double()

    mean = parameter(module, norm["running_mean"]).double()
    gain = tensor(norm["weight"], 1.0) / torch.sqrt(
        parameter(module, norm["running_var"]).double() + norm["eps"])
    given = arguments(layer)
    weight = parameter(module, given["weight"])
    bias = tensor(given["bias"], 0.0)
    folded = weight.double() * gain.reshape(-1, *[1] * (weight.ndim - 1))
    replaced = {"weight": folded, "bias": (bias - mean) * gain + tensor(norm["bias"], 0.0)}
    values = {**given, **{name: _attribute(module, layer, f"{layer.name}_{name}", value.to(weight))
                          for name, value in replaced.items()}}
    layer.args, layer.kwargs = tuple(values.values()), {}


def _attribute(module: fx.GraphModule, before: fx.Node, name: str, value: Tensor) -> fx.Node:
    module.register_parameter(name, nn.Parameter(value))
    with module.graph.inserting_before(before):
        return module.graph.get_attr(name)


def parameter(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """Return the tensor of a parameter node, detached."""
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value.detach()


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator node by the names of its schema, defaults included."""
    values = {}
    for index, argument in enumerate(operator(node)._schema.arguments):
        if index < len(node.args):
            values[argument.name] = node.args[index]
        else:
            values[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return values


def operator(node: fx.Node) -> torch._ops.OpOverload:
    """Return the torch operator of a node."""
    assert isinstance(node.target, torch._ops.OpOverload), node.target
    return node.target


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value without the batch."""
    return tuple(int(size) for size in node.meta["val"].shape[1:])


def layer_name(node: fx.Node) -> str:
    """Return the path of the torch layer that a node stems from, such as ``block.0.conv``.

    An operator called outside of a layer is named after the module around it: ``block.0.add``.
    """
    operation = str(operator(node)._schema.name).split("::")[1].rstrip("_")
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack or not stack[-1][0]:
        return operation
    path, kind = stack[-1]
    kind_name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return str(path) if kind_name.startswith(LEAVES) else f"{path}.{operation}"


def unsupported(node: fx.Node, reason: str, remedy: str) -> UnsupportedLayerError:
    """Return the error for one node."""
    operation = str(node.target)
    return UnsupportedLayerError([UnsupportedLayer(layer_name(node), operation, reason, remedy)])

