"""Chooses the order of channels, so that what a layer selects stands in few lane groups.

Where channels are split, shuffled and joined, a layer reads some channels of each of several
tensors, and multiplies every lane group that holds one of them. Two things make these few:

- A convolution computes the channels that the same layers read next to one another. Its weights
  are put in that order, which costs nothing; lanes between may stay free.
- Where many lane groups hold few channels each that a layer wants, an identity convolution gathers
  them. It takes along what later layers read of the same lane groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Graph, Node, SelectChannels, Tensor
from pliant.compiler.lane_words import lane_words
from pliant.compiler.operation import Operation, Reduction
from pliant.compiler.pieces import LaneGroups
from pliant.compiler.select import Selection, gather, readings
from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.memory import ceil_div

GATHER_OVERHEAD = 300
"""Cycles that a gathering layer is taken to cost besides its passes: it waits for what it reads,
and is waited for."""

Channel = tuple[str, int]
"""A tensor and a channel of it."""
Word = tuple[str, int]
"""A tensor and a lane group of it."""


def arrange_channels(graph: Graph, config: AcceleratorConfig) -> Graph:
    """Return a lowered graph with channels in another order, and layers that gather some.

    Every layer that read selected channels reads a SelectChannels of its own. Tensors whose
    channels have moved know the places (``Tensor.channels``).
    """
    return _Arranger(graph, config, readings(graph, config)).run()


@dataclass(frozen=True)
class _Reader:
    """A node that reads selected channels, and the cycles that each lane group costs it."""

    name: str
    channels: tuple[Channel, ...]
    cycles: int


class _Arranger:
    """Arranges one graph.

    Parameters
    ----------
    graph : Graph
    config : AcceleratorConfig
    selections : dict
        What readers of selected channels read, by name.
    """

    def __init__(
        self, graph: Graph, config: AcceleratorConfig, selections: Mapping[str, Selection]
    ) -> None:
        self._graph = graph
        self._lanes = config.lanes
        self._config = config
        self._tensors = graph.tensors()
        self._readers = [self._reader(node, selections[node.name]) for node in graph.nodes
                         if node.name in selections
                         and set(selections[node.name].sources) <= set(self._tensors)]
        self._numbers = {reader.name: number for number, reader in enumerate(self._readers)}
        self._readers_of: dict[Channel, tuple[int, ...]] = {}
        for number, reader in enumerate(self._readers):
            for channel in reader.channels:
                self._readers_of[channel] = (*self._readers_of.get(channel, ()), number)
        self._places: dict[str, NDArray[np.int64]] = {}
        """Of the channels of arranged tensors."""
        self._where: dict[Channel, Channel] = {}
        """Where a channel is read from: its place in its tensor, or in one that gathers."""

    def run(self) -> Graph:
        """Return the arranged graph."""
        for node in self._graph.nodes:
            if self._movable(node):
                self._arrange(node)
        for channel in self._readers_of:
            name, index = channel
            self._where[channel] = name, int(self._places[name][index]
                                             if name in self._places else index)
        nodes: list[Node] = []
        for node in self._graph.nodes:
            if node.name in self._numbers:
                nodes += self._reading(node)
            elif isinstance(node, SelectChannels):
                nodes.append(self._select(node))
            else:
                nodes.append(self._moved(node))
        return _without_unread(self._graph.replace(nodes=tuple(nodes)), set(self._numbers))

    def _reader(self, node: Node, selection: Selection) -> _Reader:
        height, width = node.output.shape[1:]
        cycles = (ceil_div(node.output.shape[0], self._config.cols)
                  * max(height * width, self._config.rows))
        if isinstance(node, Operation):
            geometry = Geometry.of(node, self._config, self._tensors)
            cycles = (cycles * geometry.taps if geometry.matrix else
                      geometry.rows.outputs * geometry.row_cycles(geometry.columns.outputs,
                                                                  FEATURE_BANKS) // FEATURE_BANKS)
        channels = tuple((selection.sources[source], int(channel))
                         for source, channel in selection.channels)
        return _Reader(node.name, channels, cycles)

    # Order

    def _movable(self, node: Node) -> bool:
        """Whether the order of a node's output channels is free, and all who read it will know."""
        name = node.output.name
        return (isinstance(node, Operation) and node.reduction is Reduction.CONVOLUTION
                and name not in self._graph.outputs
                and all(isinstance(reader, SelectChannels) for reader in self._graph.nodes
                        if name in reader.inputs)
                and any((name, channel) in self._readers_of
                        for channel in range(node.output.shape[0])))

    def _arrange(self, node: Node) -> None:
        """Put channels with the same readers together, if that costs the node itself nothing."""
        tensor = node.output
        count = tensor.shape[0]
        words = lane_words(self._classes((tensor.name, channel) for channel in range(count)),
                           self._lanes)
        if len(words) > ceil_div(count, self._config.cols) * self._config.groups_per_tile:
            return
        places = np.empty(count, np.int64)
        for number, word in enumerate(words):
            for lane, (_, channel) in enumerate(word):
                places[channel] = number * self._lanes + lane
        self._places[tensor.name] = places
        if self._lane_groups(self._moved(node)) > self._lane_groups(node):  # in groups
            del self._places[tensor.name]

    def _lane_groups(self, node: Node) -> int:
        """Return the lane groups that each tile of a convolution multiplies."""
        assert isinstance(node, Operation)
        assert node.weight is not None
        return LaneGroups(self._config, node.weight, node.weight.shape[1:2]).tiles.shape[1]

    def _classes(self, channels: Iterable[Channel], first: int = 0) -> list[list[Channel]]:
        """Return channels by who of the readers from number `first` on reads them, in order."""
        classes: dict[tuple[int, ...], list[Channel]] = {}
        for channel in channels:
            readers = tuple(n for n in self._readers_of.get(channel, ()) if n >= first)
            classes.setdefault(readers, []).append(channel)
        return [classes[readers] for readers in sorted(classes, key=lambda key: key or (np.inf,))]

    def _moved(self, node: Node) -> Node:
        """Return a node that computes its channels in their places."""
        places = self._places.get(node.output.name)
        if places is None:
            return node
        assert isinstance(node, Operation)
        assert node.weight is not None
        count = int(places.max()) + 1
        source = np.zeros(count, np.int64)  # lanes between are computed with weights of 0
        source[places] = np.arange(len(places))
        weight = np.zeros((count, *node.weight.shape[1:]), np.int8)
        weight[places] = node.weight
        bias = np.zeros(count, np.int64)
        bias[places] = node.bias
        requantization = dataclasses.replace(
            node.requantization, multiplier=node.requantization.multiplier[source],
            shift=node.requantization.shift[source])
        output = dataclasses.replace(
            node.output, shape=(count, *node.output.shape[1:]),
            channels=tuple(int(place) for place in places))
        return dataclasses.replace(node, weight=weight, bias=bias, output=output,
                                   requantization=requantization)

    def _select(self, node: SelectChannels) -> SelectChannels:
        """Return a selection that finds channels in their places."""
        channels = node.channels.copy()
        for source, name in enumerate(node.inputs):
            own = channels[:, 0] == source
            if name in self._places:
                channels[own, 1] = self._places[name][channels[own, 1]]
        return dataclasses.replace(node, channels=channels)

    # Gathering

    def _word(self, channel: Channel) -> Word:
        name, place = self._where[channel]
        return name, place // self._lanes

    def _reading(self, node: Node) -> list[Node]:
        """Return a node behind its selection, and behind a layer that gathers if that pays."""
        number = self._numbers[node.name]
        reader = self._readers[number]
        nodes: list[Node] = []
        moved = self._choose(number)
        if moved:
            nodes.append(self._gather(f"{node.name}.gather", moved))
        selection = self._selection(reader.channels)
        if isinstance(node, SelectChannels):
            return [*nodes, dataclasses.replace(
                node, inputs=selection.sources, channels=selection.channels)]
        selected = dataclasses.replace(
            self._tensors[node.inputs[0]], name=self._free(f"{node.name}.channels"))
        nodes.append(SelectChannels(name=selected.name, inputs=selection.sources, output=selected,
                                    channels=selection.channels))
        return [*nodes, dataclasses.replace(
            self._moved(node), inputs=(selected.name, *node.inputs[1:]))]

    def _selection(self, channels: Sequence[Channel]) -> Selection:
        """Return channels where they are read from."""
        places = [self._where[channel] for channel in channels]
        sources = {name: number for number, name in
                   enumerate(dict.fromkeys(name for name, _ in places))}
        return Selection(tuple(sources), np.array(
            [(sources[name], place) for name, place in places], np.int64))

    def _choose(self, number: int) -> list[list[Channel]]:
        """Return the words to gather for a reader and those behind it; none if it does not pay."""
        held: dict[Word, list[Channel]] = {}
        counts: dict[Word, int] = {}
        for channel in self._readers[number].channels:
            counts[self._word(channel)] = counts.get(self._word(channel), 0) + 1
        for channel in self._where:
            if self._word(channel) in counts and self._readers_of[channel][-1] >= number:
                held.setdefault(self._word(channel), []).append(channel)
        rarest = sorted(counts, key=lambda word: counts[word])
        best: list[list[Channel]] = []
        most = 0
        for size in range(2, len(rarest) + 1):
            words = [held[word] for word in rarest[:size]]
            for later in (False, True):  # whether to take along what others alone read
                moved = [channel for word in words for channel in word
                         if later or number in self._readers_of[channel]]
                gathered = lane_words(self._classes(moved, number), self._lanes)
                gain = self._gain(words, gathered, number)
                if gain > most:
                    best, most = gathered, gain
        return best

    def _gain(
        self, words: list[list[Channel]], gathered: list[list[Channel]], first: int
    ) -> int:
        """Return the cycles saved if readers from number `first` on have `gathered` words."""
        height, width = self._tensors[gathered[0][0][0]].shape[1:]
        tiles = ceil_div(len(gathered), self._config.groups_per_tile)
        moved = {channel for word in gathered for channel in word}
        left = [[channel for channel in word if channel not in moved] for word in words]
        return (self._cycles(words, first) - self._cycles(gathered, first)
                - self._cycles(left, first) - GATHER_OVERHEAD
                - len(words) * tiles * max(height * width, self._config.rows))

    def _cycles(self, words: list[list[Channel]], first: int) -> int:
        """Return the cycles that words cost the readers from number `first` on."""
        return sum(self._readers[reader].cycles for word in words for reader in
                   {n for channel in word for n in self._readers_of[channel] if n >= first})

    def _gather(self, name: str, words: list[list[Channel]]) -> Operation:
        """Return the layer that gathers words; they are read from there from now on."""
        lanes = self._lanes
        channels = [channel for word in words for channel in word]
        selection = self._selection(channels)
        places = [number * lanes + lane for number, word in enumerate(words)
                  for lane in range(len(word))]
        like = self._tensors[channels[0][0]]
        output = dataclasses.replace(like, name=self._free(name),
                                     shape=(places[-1] + 1, *like.shape[1:]))
        for channel, place in zip(channels, places, strict=True):
            self._where[channel] = output.name, place
        self._tensors[output.name] = output
        return gather(name, output, selection, self._sizes(), places)

    def _sizes(self) -> dict[str, Tensor]:
        """Return all tensors as they are after their channels have moved."""
        moved = {name: dataclasses.replace(
            self._tensors[name], shape=(int(places.max()) + 1, *self._tensors[name].shape[1:]))
            for name, places in self._places.items()}
        return self._tensors | moved

    def _free(self, name: str) -> str:
        """Return a name that no tensor has."""
        while name in self._tensors:
            name += "'"
        return name


def _without_unread(graph: Graph, kept: set[str]) -> Graph:
    """Return the graph without selections that nobody reads, but for those named in `kept`."""
    read = set(graph.outputs)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if isinstance(node, SelectChannels) and not {node.name, node.output.name} & (kept | read):
            continue
        read.update(node.inputs)
        nodes.append(node)
    return graph.replace(nodes=tuple(reversed(nodes)))
