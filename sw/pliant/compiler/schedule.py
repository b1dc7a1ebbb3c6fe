"""Puts loads, computations and stores into program order and gives them addresses.

The load unit should run ahead of the others: after the compute instruction of a step come the loads
of the next, as far as their data are stored and their places are free, then the rest of the step.
Queues let the units run ahead further; loads that come earlier than that only delay more urgent
ones, for they are executed in order.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from pliant.compiler.buffers import Arena, Ring, allocate_slot
from pliant.compiler.step import LoadTask, Step
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Instruction, Matrix, Target
from pliant.spec.memory import TABLE_BYTES


@dataclass
class Schedule:
    """Instructions in program order, without tokens; `layer_starts` counts what precedes each."""

    instructions: list[Instruction] = field(default_factory=list)
    layer_starts: list[int] = field(default_factory=list)


class Scheduler:
    """Orders the steps of a program.

    Parameters
    ----------
    config : AcceleratorConfig
    steps : list of Step
        Of all layers, in order.
    arenas : list of Arena
        Feature buffer slots of each layer.
    """

    def __init__(
        self, config: AcceleratorConfig, steps: list[Step], arenas: list[Arena]
    ) -> None:
        self.steps = steps
        self.arenas = arenas
        self.rings = {Target.WEIGHT: Ring(config.weight_depth),
                      Target.PARAMETER: Ring(config.parameter_depth),
                      Target.TABLE: Ring(TABLE_BYTES),
                      Target.TAPS: Ring(config.tap_depth)}
        self.schedule = Schedule()
        self.bank = 0

    def run(self) -> Schedule:
        """Return the schedule of all steps."""
        layer = -1
        for index, step in enumerate(self.steps):
            if step.layer != layer:
                layer = step.layer
                self.schedule.layer_starts.append(len(self.schedule.instructions))
            for task in step.loads:
                if not task.done:
                    placed = self._place(task, index, step)
                    assert placed, "the tiling leaves room for what one step needs"
            if step.matrix is not None:
                self._emit_matrix(step, step.matrix)
                self._hoist(index)
            if step.post is not None:
                self._emit_post(step)
                if step.matrix is None:
                    self._hoist(index)
                self._emit_store(step)
        return self.schedule

    def _hoist(self, index: int) -> None:
        """Emit the loads of the next step that can come early, in order within each buffer."""
        if index + 1 == len(self.steps):
            return
        later = self.steps[index + 1]
        blocked: set[Target] = set()
        for task in later.loads:
            target = task.buffer.target
            if target not in blocked and not (task.ready() and self._place(task, index, later)):
                blocked.add(target)

    def _place(self, task: LoadTask, index: int, step: Step) -> bool:
        """Emit the load of `step` while `index` runs; False if there is no room for it yet."""
        buffer = task.buffer
        if buffer.address is None:
            if buffer.target == Target.FEATURE:
                between = self.arenas[self.steps[index].layer:step.layer + 1]
                if not allocate_slot(buffer, between, index):
                    return False
            elif not self.rings[buffer.target].allocate(buffer, index):
                return False
        assert buffer.address is not None
        self.schedule.instructions.append(dataclasses.replace(
            task.load, destination=task.load.destination + buffer.address))
        task.done = True
        return True

    def _emit_matrix(self, step: Step, matrix: Matrix) -> None:
        if not matrix.accumulate:
            self.bank ^= 1
        assert step.input is not None
        assert step.input.address is not None
        assert step.weights is not None
        assert step.weights.address is not None
        self.schedule.instructions.append(dataclasses.replace(
            matrix, source=matrix.source + step.input.address,
            weights=matrix.weights + step.weights.address, accumulator_bank=self.bank))

    def _emit_post(self, step: Step) -> None:
        assert step.post is not None
        assert step.output is not None
        assert step.output.slot is not None
        assert step.parameters is not None
        assert step.parameters.address is not None
        places = {"destination": step.output.slot.first,
                  "parameters": step.post.parameters + step.parameters.address}
        if step.residual is not None:
            assert step.residual.address is not None
            places["residual"] = step.residual.address
        if step.matrix is not None:
            places["accumulator_bank"] = self.bank
        else:
            assert step.input is not None
            assert step.input.address is not None
            places["window"] = step.input.address
        if step.taps is not None:
            assert step.taps.address is not None
            places["taps"] = step.post.taps + step.taps.address
        self.schedule.instructions.append(dataclasses.replace(step.post, **places))

    def _emit_store(self, step: Step) -> None:
        assert step.store is not None
        assert step.output is not None
        assert step.output.slot is not None
        assert step.stored is not None
        self.schedule.instructions.append(
            dataclasses.replace(step.store, source=step.output.slot.first))
        assert step.result is not None
        step.result.words(step.stored)[...] = True
