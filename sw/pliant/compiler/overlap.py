"""Interleaves the steps of layers that run at the same time.

A depthwise convolution keeps the post unit busy, the pointwise convolution behind it the matrix
unit. Run part by part, with the tensor between them on chip, one hides behind the other. The order
is found by playing the steps on a model of the units: what can start first comes next.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.buffers import Slot
from pliant.compiler.chip import Part
from pliant.compiler.cycles import matrix_cycles, post_cycles, transfer_cycles
from pliant.compiler.step import Extent, Step, Sums
from pliant.spec.config import ACCUMULATOR_BANKS, AcceleratorConfig

NEVER = float("inf")
BANK_CONFLICT = 0.1
"""Cycles that a word of the matrix unit costs the post unit, whose windows want the same banks."""


def interleave(
    layers: Sequence[Sequence[Step]], config: AcceleratorConfig
) -> tuple[list[Step], int]:
    """Return the steps of all layers in program order, and the cycles that the model took.

    Steps of a layer that use the same unit stay in their order, and a Post follows the Matrix steps
    of its tile. A part of a tensor on chip is complete before it is read, and read by all before
    its slot holds another. Weights and parameters of the first steps are taken to have been loaded
    during the stage before. Of steps that could start at once, the one of the last layer comes
    first: it frees what the others wait for.
    """
    order: list[Step] = []
    machine = _Machine(layers, config)
    queues = [_Queue(layer) for layer in reversed(layers)]
    while any(queues):
        heads = [(machine.start(step), queue, step) for queue in queues for step in queue.heads()]
        start, queue, step = min(heads, key=lambda head: head[0])
        assert start < NEVER, "a step waits for one that comes after it"
        machine.run(step, start)
        queue.take(step)
        order.append(step)
    return order, int(max(machine.matrix, machine.post, machine.memory))


class _Queue:
    """Steps of one layer, by unit; numbered, so that a Post can tell what comes before it."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._matrix = deque((i, step) for i, step in enumerate(steps) if step.matrix is not None)
        self._post = deque((i, step) for i, step in enumerate(steps) if step.matrix is None)

    def __bool__(self) -> bool:
        return bool(self._post)  # the last step of every layer

    def heads(self) -> list[Step]:
        """Return what may come next: a Matrix, a Post whose Matrix steps have been taken."""
        if not self._post:
            return []
        found = [self._matrix[0][1]] if self._matrix else []
        number, post = self._post[0]
        if not self._matrix or self._matrix[0][0] > number:
            found.insert(0, post)
        return found

    def take(self, step: Step) -> None:
        """Remove a head."""
        (self._post if step.matrix is None else self._matrix).popleft()


class _Machine:
    """Times at which units, accumulator banks, slots and data are free or complete."""

    def __init__(self, layers: Sequence[Sequence[Step]], config: AcceleratorConfig) -> None:
        self.config = config
        self.matrix = self.post = self.memory = 0.0
        self._banks = [0.0] * ACCUMULATOR_BANKS
        self._sums: dict[Sums, float] = {}
        self._loaded: dict[Step, float] = {}
        self._slots: dict[Slot, float] = {}
        steps = [step for layer in layers for step in layer]
        self._written = {step.writes.part: _never(step.writes.part)
                         for step in steps if step.writes is not None}
        self._first = {layer[0] for layer in layers}
        self._readers = Counter(extent.part for step in steps for extent in step.reads)
        self._last_read: dict[Part, float] = {}
        self._occupants: dict[Slot, Part] = {}

    def start(self, step: Step) -> float:
        """Return when `step` can start; NEVER if another must come before it."""
        ready = self._load(step)
        for extent in step.reads:
            if extent.part in self._written:  # else a layer before these has written it
                ready = max(ready, float(self._times(extent).max()))
        if step.writes is not None:
            ready = max(ready, self._vacant(step.writes.part))
        if step.matrix is None:
            if step.sums is not None:
                ready = max(ready, self._sums[step.sums])
            return max(ready, self.post)
        if not step.matrix.accumulate:
            ready = max(ready, self._banks[0]) if self._banks else NEVER
        return max(ready, self.matrix)

    def run(self, step: Step, start: float) -> None:
        """Note that `step` starts."""
        if step.matrix is not None:
            assert step.sums is not None
            cycles = matrix_cycles(step.matrix, self.config)
            end = start + cycles
            self.post += BANK_CONFLICT * cycles
            if not step.matrix.accumulate:
                del self._banks[0]
            self.matrix = self._sums[step.sums] = end
        else:
            assert step.post is not None
            end = start + post_cycles(step.post)
            self.post = end
            if step.sums is not None:
                self._banks.append(end)
        if step.writes is not None:
            if step.completes:
                self._times(step.writes)[...] = end
            slot = step.writes.part.buffer.slot
            assert slot is not None
            self._occupants[slot] = step.writes.part
        for extent in step.reads:
            self._readers[extent.part] -= 1
            self._last_read[extent.part] = end
        for buffer in step.buffers():
            if buffer.slot is not None:
                self._slots[buffer.slot] = end
        if step.writes is None:  # else stored for keep_tensors alone, which changes no order
            self.memory += sum(transfer_cycles(task.store, self.config) for task in step.stores)

    def _load(self, step: Step) -> float:
        """Return when all that `step` needs is loaded; loads are executed in order."""
        if step not in self._loaded:
            end = 0.0
            for task in step.loads:
                if task.tensor is None and step in self._first:
                    continue
                if task.buffer.slot is not None:
                    self.memory = max(self.memory, self._slots.get(task.buffer.slot, 0.0))
                self.memory += transfer_cycles(task.load, self.config)
                end = self.memory + self.config.board.ddr_latency_cycles
            self._loaded[step] = end
        return self._loaded[step]

    def _times(self, extent: Extent) -> NDArray[np.float64]:
        return self._written[extent.part][slice(*extent.groups), slice(*extent.rows)]

    def _vacant(self, part: Part) -> float:
        """Return when the slot of `part` is free of the part before it."""
        assert part.buffer.slot is not None
        before = self._occupants.get(part.buffer.slot)
        if before is None or before is part:
            return 0.0
        return NEVER if self._readers[before] else self._last_read[before]


def _never(part: Part) -> NDArray[np.float64]:
    """Return the times at which the rows of each lane group of a part are written."""
    return np.full((part.buffer.size // part.strides[0], part.height), NEVER)
