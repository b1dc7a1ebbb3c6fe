"""Where the cycles of a run went, layer by layer.

Every cycle is told by what the array does in it, for the array is what a network should keep busy.
While no matrix instruction runs, the blame goes to the unit that is at work on the critical path:
the next matrix instruction waits for tokens or for its turn, what would send them waits in turn,
and so on back to an instruction that is being executed.

Layers that the compiler has overlapped, so that their computing instructions take turns, share one
entry: no cycle belongs to one of them alone.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES, Instruction, Load, Matrix, Post, Store, Unit
from pliant.spec.program import LayerInfo, Program
from pliant_sim.core import Event
from pliant_sim.trace import Span, spans

STALLS: dict[str, str] = {
    "unused": "the array takes a word, but some of its rows, columns or taps have no useful work",
    "pass": "a matrix instruction runs, but the array takes no word: weights, banks, pipeline",
    "load": "waits for a Load",
    "post": "waits for the post-processor",
    "store": "waits for a Store",
    "issue": "waits for instructions: fetch and dispatch",
}
"""Causes of cycles without useful multiply-accumulates, and what each means."""

SEPARATOR = " | "
"""Between the names, and the kinds, of layers that share an entry."""

_BLAMED = {Unit.LOAD: "load", Unit.MATRIX: "pass", Unit.POST: "post", Unit.STORE: "store"}


@dataclass(frozen=True, kw_only=True)
class LayerCycles:
    """One layer of a run, or several that overlap.

    Attributes
    ----------
    name, kind : str
        As in the program's layer map; those of overlapping layers joined by SEPARATOR.
    layers : int
        How many there are; figures are their sums.
    macs : int
        Useful multiply-accumulates: no padding, no strided-away work.
    cycles : int
        From the end of the entry before to the completion of the last instruction; those of all
        entries add up to the run's.
    utilization : float
        ``macs / (rows * cols * cycles)``. Work done while the layer before still drained counts
        here, so a short layer may pass 1.
    estimated_cycles : int
        What the compiler's cycle model expected of `cycles`.
    estimate_error : float
        ``estimated_cycles / cycles - 1``. What overlaps the layer before, such as loads of the
        first tile, is not in the layer's own time, in estimate and measurement alike.
    ddr_bytes : int
        Bytes that its instructions move, and the instructions themselves.
    stalls : dict
        Cycles by the causes in STALLS, rounded; the rest of `cycles` is useful work.
    """

    name: str
    kind: str
    layers: int
    macs: int
    cycles: int
    utilization: float
    estimated_cycles: int
    estimate_error: float
    ddr_bytes: int
    stalls: dict[str, int]


def layer_cycles(
    program: Program, config: AcceleratorConfig, events: Iterable[Event], cycles: int
) -> tuple[LayerCycles, ...]:
    """Return where the `cycles` of a traced run went: an entry for each layer, or several of them.

    Raises
    ------
    RtlError
        The events do not belong to the program.
    """
    timeline = _Timeline(program, events)
    groups = _overlapping(program, timeline.instructions)
    ends = _ends(groups, timeline)
    starts = [ends[-1] - cycles, *ends[:-1]]
    lost = [dict.fromkeys(STALLS, 0.0) for _ in groups]
    for segment in _segments(program, config, timeline, starts[0], ends[-1]):
        _charge(segment, starts, ends, lost)
    return tuple(
        _entry(layers, config, timeline, end - start, causes)
        for layers, start, end, causes in zip(groups, starts, ends, lost, strict=True)
    )


def _entry(
    layers: list[LayerInfo], config: AcceleratorConfig, timeline: _Timeline, cycles: int,
    causes: dict[str, float],
) -> LayerCycles:
    macs = sum(layer.macs for layer in layers)
    estimate = sum(layer.estimated_cycles for layer in layers)
    return LayerCycles(
        name=SEPARATOR.join(layer.name for layer in layers),
        kind=SEPARATOR.join(layer.kind for layer in layers), layers=len(layers),
        macs=macs, cycles=cycles, utilization=macs / (config.peak_macs_per_cycle * max(1, cycles)),
        estimated_cycles=estimate, estimate_error=estimate / max(1, cycles) - 1,
        ddr_bytes=sum(_ddr_bytes(timeline.instructions[index], config)
                      for layer in layers for index in layer.indices()),
        stalls={cause: round(amount) for cause, amount in causes.items()})


def _overlapping(program: Program, instructions: list[Instruction]) -> list[list[LayerInfo]]:
    """Return the layers in groups whose computing instructions stand apart, in program order.

    Loads and Stores do not join layers: loads run ahead of what computes anyway.
    """
    spans = []
    for order, layer in enumerate(program.layers):
        own = [i for i in layer.indices() if isinstance(instructions[i], (Matrix, Post))]
        spans.append((own[0], own[-1], order))
    groups: list[list[LayerInfo]] = []
    reached = -1
    for first, last, order in sorted(spans):
        if first > reached:
            groups.append([])
        groups[-1].append(program.layers[order])
        reached = max(reached, last)
    return groups


def _ddr_bytes(instruction: Instruction, config: AcceleratorConfig) -> int:
    """Return the bytes that fetching and executing an instruction moves."""
    if not isinstance(instruction, (Load, Store)):
        return INSTRUCTION_BYTES
    beats = instruction.run_beats * instruction.runs * instruction.blocks
    return INSTRUCTION_BYTES + beats * config.axi_data_bytes


def _array_words(matrix: Matrix) -> int:
    """Return the words that the array takes, one a cycle, in a matrix instruction."""
    passes = matrix.groups * matrix.kernel_height * matrix.kernel_width
    return passes * matrix.out_height * matrix.out_width


class _Timeline:
    """When the instructions of a run were executed, and which ones each had to wait for."""

    def __init__(self, program: Program, events: Iterable[Event]) -> None:
        self.instructions = program.decoded()
        self.spans: dict[int, Span] = {}
        self.previous: dict[int, int] = {}
        self.senders: dict[int, list[int]] = defaultdict(list)
        units: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        for span in spans(program, events):
            if units[span.unit]:
                self.previous[span.index] = units[span.unit][-1]
            units[span.unit].append(span.index)
            self.spans[span.index] = span
        for sender, receiver in itertools.product(Unit, Unit):
            sent = [i for i in units[sender] if self.instructions[i].signal >> receiver & 1]
            taken = [i for i in units[receiver] if self.instructions[i].wait >> sender & 1]
            for first, second in zip(sent, taken, strict=False):  # tokens may be left over
                self.senders[second].append(first)
        self.matrices = [self.spans[index] for index in units[Unit.MATRIX]]

    def blame(self, index: int, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        """Yield pieces (start, end, cause) of a time in which `index` was not yet executed."""
        while start < end:
            before = [self.spans[i] for i in self.senders[index]]
            if index in self.previous:
                before.append(self.spans[self.previous[index]])
            last = max(before, key=lambda span: span.end, default=None)
            ready = start if last is None else min(end, max(start, last.end))
            if ready < end:
                yield ready, end, "issue"
            if last is None:
                return
            begin = max(start, min(last.start, ready))
            if begin < ready:
                yield begin, ready, _BLAMED[last.unit]
            index, end = last.index, begin


def _ends(groups: list[list[LayerInfo]], timeline: _Timeline) -> list[int]:
    """Return the cycle in which the last instruction of each group, or an earlier one, ends.

    Loads do not count: a layer's own end before it does, and later layers' run beside it.
    """
    ends: list[int] = []
    for layers in groups:
        own = (timeline.spans[i].end for layer in layers for i in layer.indices()
               if timeline.spans[i].unit is not Unit.LOAD)
        ends.append(max([*own, *ends[-1:]]))
    return ends


@dataclass(frozen=True)
class _Segment:
    """From `start` to `end`, `lost` cycles went to each cause."""

    start: int
    end: int
    lost: dict[str, float]


def _segments(
    program: Program, config: AcceleratorConfig, timeline: _Timeline, start: int, end: int
) -> Iterator[_Segment]:
    """Yield all the time from `start` to `end`, whatever the matrix unit does."""
    useful = _useful_share(program, config, timeline)
    now = start
    for span in timeline.matrices:
        for low, high, cause in timeline.blame(span.index, now, span.start):
            yield _Segment(low, high, {cause: high - low})
        assert isinstance(span.instruction, Matrix)
        words = _array_words(span.instruction)
        begin = max(now, span.start)  # an instruction starts while the one before drains
        yield _Segment(begin, span.end, {
            "pass": span.end - begin - words, "unused": words * (1 - useful[span.layer])})
        now = span.end
    final = max(timeline.spans.values(), key=lambda span: span.end)
    if final.unit is Unit.MATRIX:
        return
    begin = max(now, final.start)
    yield _Segment(begin, end, {_BLAMED[final.unit]: end - begin})
    for low, high, cause in timeline.blame(final.index, now, begin):
        yield _Segment(low, high, {cause: high - low})


def _useful_share(
    program: Program, config: AcceleratorConfig, timeline: _Timeline
) -> dict[str | None, float]:
    """Return useful multiply-accumulates over those of a full array in the words it takes."""
    words: dict[str | None, int] = defaultdict(int)
    for span in timeline.matrices:
        assert isinstance(span.instruction, Matrix)
        words[span.layer] += _array_words(span.instruction)
    macs = {layer.name: layer.macs for layer in program.layers}
    return {name: (macs[name] if name else 0) / (config.peak_macs_per_cycle * count)
            for name, count in words.items()}


def _charge(
    segment: _Segment, starts: list[int], ends: list[int], lost: list[dict[str, float]]
) -> None:
    """Divide what a segment lost among the entries in whose time it falls."""
    index = bisect.bisect_right(ends, segment.start)
    while index < len(ends) and starts[index] < segment.end:
        inside = min(segment.end, ends[index]) - max(segment.start, starts[index])
        for cause, amount in segment.lost.items():
            lost[index][cause] += amount * inside / (segment.end - segment.start)
        index += 1
