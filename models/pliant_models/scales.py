"""Which values of a network have one scale: those that are joined, or pass a layer that keeps it.

Channels of one tensor share a scale, so tensors that meet in a concatenation do; pools, clips and
moved channels keep the scale of what they read. Values of one scale get one quantizer, calibrated
for the value of the widest range.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from brevitas.core.scaling import ParameterFromRuntimeStatsScaling
from torch import Tensor, fx, nn

from pliant_models import channels
from pliant_models.capture import arguments, unsupported
from pliant_models.deformable import DEFORMABLE_CONVOLUTION


class ScaleGroups:
    """The values of a captured network, those of one scale together.

    Parameters
    ----------
    graph : fx.Graph
    keeps_scale : function
        Returns whether the layer of a node maps integers to integers of the same scale.
    input_scale : float or None
        Fixed scale of the inputs.

    Raises
    ------
    UnsupportedLayerError
        Two fixed scales meet.
    """

    def __init__(
        self, graph: fx.Graph, keeps_scale: Callable[[fx.Node], bool], input_scale: float | None
    ) -> None:
        self._parents: dict[fx.Node, fx.Node] = {}
        self._fixed: dict[fx.Node, float] = {}
        for node in graph.nodes:
            if node.op == "placeholder" and input_scale is not None:
                self._fixed[node] = input_scale
            elif node.op == "call_function" and channels.moves_channels(node):
                for source in channels.operands(node):
                    self._join(node, source)
            elif node.op == "call_function" and keeps_scale(node):
                self._join(node, node.all_input_nodes[0])
        for node in graph.nodes:
            if node.target is DEFORMABLE_CONVOLUTION:
                given = arguments(node)
                self._fix(node, given["offsets"], 2.0**-given["fraction_bits"])

    def group(self, node: fx.Node) -> fx.Node:
        """Return the node that stands for all values with the scale of `node`."""
        while node in self._parents:
            node = self._parents[node]
        return node

    def fixed_scale(self, node: fx.Node) -> float | None:
        """Return the scale that `node` must have, or None."""
        return self._fixed.get(self.group(node))

    def _join(self, node: fx.Node, source: fx.Node) -> None:
        first, second = self.group(node), self.group(source)
        if first is second:
            return
        self._parents[first] = second
        if first in self._fixed:
            self._fix(node, second, self._fixed.pop(first))

    def _fix(self, node: fx.Node, value: fx.Node, scale: float) -> None:
        found = self._fixed.setdefault(self.group(value), scale)
        if found != scale:
            raise unsupported(node, f"it needs a tensor of scale {scale}, which has {found}",
                              "compute the tensor by a layer of its own, without joining it to "
                              "others")


@contextlib.contextmanager
def widest_range(model: nn.Module, batches: int) -> Iterator[None]:
    """Give quantizers of several values the range of the widest of them, while calibrating.

    Brevitas averages over all calls of a quantizer; here it is over `batches` alone.
    """
    seen: list[tuple[ParameterFromRuntimeStatsScaling, list[Tensor]]] = []
    hooks = []
    for scaling in model.modules():
        if isinstance(scaling, ParameterFromRuntimeStatsScaling):
            ranges: list[Tensor] = []
            seen.append((scaling, ranges))
            hooks.append(scaling.stats.register_forward_hook(
                lambda _module, _inputs, found, ranges=ranges: ranges.append(found.detach())))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for scaling, ranges in seen:
        if len(ranges) > batches:
            means = torch.stack(ranges).reshape(batches, -1).mean(0)
            scaling.buffer.copy_(scaling.clamp_scaling(means.max()))
