"""Removes channel selections: split, concatenation and shuffle become a matter of addressing.

A selected tensor stands nowhere; a map says which channel of which tensor each of its channels is.
Convolutions read the lane groups in which those tensors have them, with their weights in that order
(:mod:`pliant.compiler.pieces`). What works channel by channel is applied to the tensors themselves,
and the selection moves behind it. Where neither is possible, an identity convolution puts the
channels together: its weights are 0 and 1, its scale is 1, so it is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.graph import Graph, SelectChannels, Tensor
from pliant.compiler.operation import Operation, Reduction, Window, consumers, identity
from pliant.spec.config import AcceleratorConfig

Channels = NDArray[np.int64]
"""(channels, 2): the index of a tensor and a channel of it, as SelectChannels has them."""


def select_channels(graph: Graph, config: AcceleratorConfig, *, keep: bool = False) -> Graph:
    """Return a lowered graph without SelectChannels.

    With `keep`, every selection is computed by an identity convolution. Else only those are that
    are outputs of the graph or read by nobody, that an addition reads, or that hold a channel
    twice.
    """
    return graph.replace(nodes=tuple(_resolve(graph, config, keep=keep).nodes))


def readings(graph: Graph, config: AcceleratorConfig) -> dict[str, Selection]:
    """Return which channels the nodes of a lowered graph read that do not read whole tensors.

    By node: convolutions, what works channel by channel, and selections that must be computed.
    """
    return _resolve(graph, config, keep=False).readings


def gather(
    name: str, output: Tensor, selection: Selection, tensors: Mapping[str, Tensor],
    places: Sequence[int] | None = None,
) -> Operation:
    """Return the identity convolution that puts selected channels together.

    They become channels `places` of the output, all of them if None.
    """
    count = output.shape[0]
    weight = np.zeros((count, len(selection.channels), 1, 1), np.int8)
    weight[range(count) if places is None else places, range(len(selection.channels))] = 1
    return Operation(
        name=name, inputs=selection.sources, output=output,
        reduction=Reduction.CONVOLUTION, window=Window(),
        weight=_spread(weight, selection, tensors), bias=np.zeros(count, np.int64),
        requantization=identity(count), layers=(name,))


def _resolve(graph: Graph, config: AcceleratorConfig, *, keep: bool) -> _Resolver:
    reads = consumers(graph)
    real = set(graph.outputs) | {node.output.name for node in graph.nodes
                                 if keep or not reads[node.output.name]}
    while True:
        resolver = _Resolver(graph, config, frozenset(real))
        wanted = resolver.run()
        if not wanted:
            return resolver
        real |= wanted


@dataclass(frozen=True, eq=False)
class Selection:
    """Channels of tensors that stand somewhere."""

    sources: tuple[str, ...]
    channels: Channels

    def distinct(self) -> bool:
        """Whether no channel occurs twice."""
        return len(np.unique(self.channels, axis=0)) == len(self.channels)


class _Resolver:
    """One attempt: goes through the nodes in order.

    Parameters
    ----------
    graph : Graph
    config : AcceleratorConfig
    real : frozenset of str
        Tensors that must stand somewhere.

    Attributes
    ----------
    nodes : list of Operation
    readings : dict
        Selections by the name of the node that reads them.
    """

    def __init__(self, graph: Graph, config: AcceleratorConfig, real: frozenset[str]) -> None:
        self._graph = graph
        self._config = config
        self._real = real
        self._tensors = graph.tensors()
        self._maps: dict[str, Selection] = {}
        self._wanted: set[str] = set()
        self.nodes: list[Operation] = []
        self.readings: dict[str, Selection] = {}

    def run(self) -> set[str]:
        """Fill `nodes`; return the tensors that must stand somewhere as well, for a new attempt."""
        for node in self._graph.nodes:
            if isinstance(node, SelectChannels):
                self._select(node)
                continue
            assert isinstance(node, Operation), f"{node.name!r} is not lowered"
            selected = {name for name in node.inputs if name in self._maps}
            if not selected:
                self.nodes.append(node)
            elif node.reduction is Reduction.CONVOLUTION:
                self._absorb(node, selected)
            else:
                self._divide(node, selected)
        return self._wanted

    def _compose(self, inputs: tuple[str, ...], channels: Channels) -> Selection:
        """Return channels of `inputs` as channels of tensors that stand somewhere."""
        sources: dict[str, int] = {}
        composed = np.empty_like(channels)
        for index, name in enumerate(inputs):
            own = channels[:, 0] == index
            if not own.any():
                continue
            inner = self._maps.get(name)
            if inner is None:
                inner = Selection((name,), _whole(self._tensors[name]))
            found = inner.channels[channels[own, 1]]
            numbers = np.array([sources.setdefault(inner.sources[source], len(sources))
                                for source in found[:, 0]])
            composed[own] = np.stack([numbers, found[:, 1]], axis=1)
        return Selection(tuple(sources), composed)

    def _select(self, node: SelectChannels) -> None:
        selection = self._compose(node.inputs, node.channels)
        if node.output.name not in self._real:
            self._maps[node.output.name] = selection
            return
        self.readings[node.name] = selection
        self.nodes.append(gather(node.name, node.output, selection, self._tensors))

    def _absorb(self, node: Operation, selected: set[str]) -> None:
        """Let a convolution read the sources of the selections among its windows."""
        windows = node.windows
        counts = [self._tensors[name].shape[0] for name in windows]
        channels = np.concatenate([np.stack([np.full(count, i), np.arange(count)], axis=1)
                                   for i, count in enumerate(counts)])
        selection = self._compose(windows, channels)
        beside = selected & set(node.inputs[len(windows):])
        if not selection.distinct():
            beside |= selected
        if beside:
            self._wanted |= beside
            return
        assert node.weight is not None
        self.nodes.append(dataclasses.replace(
            node, inputs=(*selection.sources, *node.inputs[len(windows):]),
            weight=_spread(node.weight, selection, self._tensors)))
        self.readings[node.name] = selection

    def _divide(self, node: Operation, selected: set[str]) -> None:
        """Apply what works channel by channel to the lane groups that hold selected channels."""
        selection = self._maps.get(node.inputs[0])
        if (selection is None or node.residual is not None or selected != {node.inputs[0]}
                or node.output.name in self._real or not selection.distinct()):
            self._wanted |= selected
            return
        lanes = self._config.lanes
        pieces: list[str] = []
        channels = np.empty_like(selection.channels)
        for source, name in enumerate(selection.sources):
            of_source = selection.channels[:, 0] == source
            needed = np.unique(selection.channels[of_source, 1] // lanes)
            for run in np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1):
                first, last = int(run[0]), int(run[-1])
                low = first * lanes
                high = min((last + 1) * lanes, self._tensors[name].shape[0])
                own = np.flatnonzero(of_source & (selection.channels[:, 1] >= low)
                                     & (selection.channels[:, 1] < high))
                channels[own] = np.stack(
                    [np.full(len(own), len(pieces)), selection.channels[own, 1] - low], axis=1)
                like = np.full(high - low, own[0])  # what nobody reads is computed like another
                like[selection.channels[own, 1] - low] = own
                part = self._part(node, name, len(pieces), like, first, len(own))
                self.nodes.append(part)
                self._tensors[part.output.name] = part.output
                pieces.append(part.output.name)
        self._maps[node.output.name] = Selection(tuple(pieces), channels)
        self.readings[node.name] = selection

    def _part(
        self, node: Operation, source: str, number: int, like: NDArray[np.intp], first: int,
        useful: int,
    ) -> Operation:
        """Return `node` for channels of one tensor, each computed as `node` computes `like`."""
        channels, *size = node.output.shape
        suffix = f".{number}"
        while node.output.name + suffix in self._tensors:
            suffix += "'"
        requantization = dataclasses.replace(
            node.requantization, multiplier=node.requantization.multiplier[like],
            shift=node.requantization.shift[like])
        return dataclasses.replace(
            node, name=node.name + suffix, inputs=(source, *node.inputs[1:]),
            layers=(node.name + suffix,),
            output=dataclasses.replace(node.output, name=node.output.name + suffix,
                                       shape=(len(like), size[0], size[1])),
            weight=None if node.weight is None else node.weight[like], bias=node.bias[like],
            requantization=requantization, macs=node.macs // channels * useful,
            first_group=first)


def _spread(
    weight: NDArray[np.int8], selection: Selection, tensors: Mapping[str, Tensor]
) -> NDArray[np.int8]:
    """Return weights of selected channels as weights of all channels of the sources."""
    sizes = [tensors[name].shape[0] for name in selection.sources]
    starts = np.cumsum([0, *sizes])
    spread = np.zeros((len(weight), starts[-1], *weight.shape[2:]), np.int8)
    index = starts[selection.channels[:, 0]] + selection.channels[:, 1]
    np.add.at(spread.swapaxes(0, 1), index, weight.swapaxes(0, 1))  # a channel may occur twice
    return spread


def _whole(tensor: Tensor) -> Channels:
    count = tensor.shape[0]
    return np.stack([np.zeros(count, np.int64), np.arange(count)], axis=1)
