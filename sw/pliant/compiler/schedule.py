"""Puts loads, computations and stores into program order and gives them addresses.

The load unit should run ahead of the others: after each compute instruction come the loads of the
next few steps, as far as their data are stored and their places are free. Queues let the units run
ahead further; loads that come earlier than that only delay more urgent ones, for they are executed
in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from pliant.compiler.buffers import Arena, Buffer, Ring, allocate_slot
from pliant.compiler.step import LoadTask, Step, StoreTask
from pliant.spec.config import ACCUMULATOR_BANKS, AcceleratorConfig
from pliant.spec.isa import Instruction, Target
from pliant.spec.memory import TABLE_BYTES

LOOKAHEAD = 3
"""Steps whose loads may come before their turn: Post, Matrix and Post of two tiles."""


@dataclass(frozen=True)
class Stage:
    """Layers whose steps are interleaved, in program order, and their feature buffer slots."""

    steps: Sequence[Step]
    arena: Arena


@dataclass
class Schedule:
    """Instructions in program order, without tokens, and the layer of each.

    Loads that come early, during the stage before, count as that stage's.
    """

    instructions: list[Instruction] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)


class Scheduler:
    """Orders the steps of a program.

    Parameters
    ----------
    config : AcceleratorConfig
    stages : sequence of Stage
        In order. An arena lists every slot that is in use during the stage, also those of tensors
        that outlive it.
    """

    def __init__(self, config: AcceleratorConfig, stages: Sequence[Stage]) -> None:
        self.steps = [step for stage in stages for step in stage.steps]
        self.stage_of = [index for index, stage in enumerate(stages) for _ in stage.steps]
        self.arenas = [stage.arena for stage in stages]
        self.rings = {Target.WEIGHT: Ring(config.weight_depth),
                      Target.PARAMETER: Ring(config.parameter_depth),
                      Target.TABLE: Ring(TABLE_BYTES),
                      Target.TAPS: Ring(config.tap_depth)}
        self.free_banks = list(range(ACCUMULATOR_BANKS))
        self.schedule = Schedule()
        for index, step in enumerate(self.steps):
            for buffer in step.buffers():
                buffer.used(index)

    def run(self) -> Schedule:
        """Return the schedule of all steps."""
        for index, step in enumerate(self.steps):
            for task in step.loads:
                if not task.done:
                    placed = self._place(task, index, index)
                    assert placed, "the tiling leaves room for what one step needs"
            if step.matrix is not None:
                self._emit_matrix(step)
            else:
                self._emit_post(step)
            self._hoist(index)
            for store in step.stores:
                self._emit_store(step, store)
        return self.schedule

    def _emit(self, step: Step, instruction: Instruction) -> None:
        self.schedule.instructions.append(instruction)
        self.schedule.layers.append(step.layer)

    def _hoist(self, index: int) -> None:
        """Emit the loads of the next steps that can come early, in order within each buffer."""
        blocked: set[Target] = set()
        for later in range(index + 1, min(index + 1 + LOOKAHEAD, len(self.steps))):
            for task in self.steps[later].loads:
                target = task.buffer.target
                if task.done or target in blocked:
                    continue
                if not (task.ready() and self._place(task, index, later)):
                    blocked.add(target)

    def _place(self, task: LoadTask, now: int, later: int) -> bool:
        """Emit a load of step `later` while `now` runs; False if there is no room for it yet."""
        buffer = task.buffer
        if buffer.address is None:
            if buffer.target == Target.FEATURE:
                between = self.arenas[self.stage_of[now]:self.stage_of[later] + 1]
                if not allocate_slot(buffer, between, now):
                    return False
            elif not self.rings[buffer.target].allocate(buffer, now):
                return False
        same = self.stage_of[now] == self.stage_of[later]
        self._emit(self.steps[later if same else now], dataclasses.replace(
            task.load, destination=task.load.destination + _address(buffer)))
        task.done = True
        return True

    def _emit_matrix(self, step: Step) -> None:
        matrix, sums = step.matrix, step.sums
        assert matrix is not None
        assert sums is not None
        if not matrix.accumulate:
            sums.bank = self.free_banks.pop(0)
        assert sums.bank is not None
        places = {"source": matrix.source + _address(step.input),
                  "weights": matrix.weights + _address(step.weights),
                  "accumulator_bank": sums.bank}
        if step.offsets is not None:
            places["offset_source"] = matrix.offset_source + _address(step.offsets)
        if step.masks is not None:
            places["mask_source"] = matrix.mask_source + _address(step.masks)
        self._emit(step, dataclasses.replace(matrix, **places))

    def _emit_post(self, step: Step) -> None:
        post = step.post
        assert post is not None
        places = {"destination": post.destination + _address(step.output),
                  "parameters": post.parameters + _address(step.parameters)}
        if step.residual is not None:
            places["residual"] = post.residual + _address(step.residual)
        if step.sums is not None:
            assert step.sums.bank is not None
            places["accumulator_bank"] = step.sums.bank
            self.free_banks.append(step.sums.bank)
        else:
            places["window"] = post.window + _address(step.input)
        if step.taps is not None:
            places["taps"] = post.taps + _address(step.taps)
        self._emit(step, dataclasses.replace(post, **places))

    def _emit_store(self, step: Step, task: StoreTask) -> None:
        self._emit(step, dataclasses.replace(
            task.store, source=task.store.source + _address(task.buffer)))
        task.tensor.words(task.part)[...] = True


def _address(buffer: Buffer | None) -> int:
    assert buffer is not None
    assert buffer.address is not None
    return buffer.address
