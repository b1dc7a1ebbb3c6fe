"""In program order, what shares addresses never lives at the same time."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from dataclasses import dataclass

import pytest

from pliant.compiler import optimize
from pliant.compiler.buffers import Arena, Buffer
from pliant.compiler.memory_plan import Constants, DdrTensor
from pliant.compiler.plan import Planner
from pliant.compiler.schedule import Scheduler, Stage
from pliant.compiler.step import LoadTask, Step, StoreTask
from pliant.spec.config import ACCUMULATOR_BANKS, AcceleratorConfig, preset
from pliant.spec.isa import Load, Target
from pliant.spec.memory import TABLE_BYTES
from pliant.spec.program import Segment
from pliant_models.random_networks import random_network

TINY = preset("tiny")
STARVED = dataclasses.replace(TINY, name="starved", feature_depth=256, parameter_depth=16,
                              tap_depth=32, weight_depth=128, accumulator_depth=16)
SEEDS = {"tiny": range(400, 406), "half": range(410, 416), "quarter": range(420, 424),
         "starved": range(430, 436), "pynq_z2": range(440, 444), "ultra96": range(450, 454)}
CONFIGS = {
    "tiny": TINY, "half": dataclasses.replace(TINY, name="half", feature_depth=256),
    "quarter": dataclasses.replace(TINY, name="quarter", feature_depth=128), "starved": STARVED,
    "pynq_z2": preset("pynq_z2"), "ultra96": preset("ultra96"),
}


@dataclass
class Life:
    """Addresses of one memory, half-open, in use from instruction `first` to `last`."""

    memory: object
    address: int
    size: int
    first: int
    last: int

    def clashes(self, other: Life) -> bool:
        """Whether both are alive at the same time in the same place."""
        return (self.memory == other.memory
                and self.address < other.address + other.size
                and other.address < self.address + self.size
                and self.first <= other.last and other.first <= self.last)


class Recorder(Scheduler):
    """Notes for everything on chip and in DDR when instructions first and last touch it."""

    def __init__(self, config: AcceleratorConfig, stages: list[Stage]) -> None:
        super().__init__(config, stages)
        self.buffers: dict[Buffer, list[int]] = defaultdict(list)
        self.tensors: dict[int, list[int]] = defaultdict(list)
        self.known: dict[int, DdrTensor] = {}
        self.open_banks: set[int] = set()

    def lives(self) -> list[Life]:
        """Return the lives of all buffers and of the tensors in scratch memory."""
        found = []
        for buffer, touched in self.buffers.items():
            assert buffer.address is not None
            found.append(Life(buffer.target, buffer.address, buffer.size, touched[0], touched[-1]))
        for key, touched in self.tensors.items():
            info, ready = self.known[key].info, self.known[key].ready
            if info.segment == Segment.SCRATCH:
                size = ready.size * self.known[key].config.lanes
                found.append(Life("scratch", info.offset, size, touched[0], touched[-1]))
        return found

    def _note(self, buffers: list[Buffer | None], tensor: DdrTensor | None = None) -> None:
        now = len(self.schedule.instructions) - 1
        for buffer in buffers:
            if buffer is not None:
                self.buffers[buffer].append(now)
        if tensor is not None:
            self.known[id(tensor)] = tensor
            self.tensors[id(tensor)].append(now)

    def _place(self, task: LoadTask, now: int, later: int) -> bool:
        placed = super()._place(task, now, later)
        if placed:
            self._note([task.buffer], task.tensor)
            if task.tensor is not None and task.tensor.info.segment != Segment.INPUT:
                assert task.part is not None
                assert task.tensor.words(task.part).all(), "loaded before it is stored"
        return placed

    def _emit_matrix(self, step: Step) -> None:
        super()._emit_matrix(step)
        self._note([step.input, step.weights])
        assert step.matrix is not None
        assert step.sums is not None
        assert step.sums.bank is not None
        assert (step.sums.bank in self.open_banks) is bool(step.matrix.accumulate)
        self.open_banks.add(step.sums.bank)
        assert len(self.open_banks) <= ACCUMULATOR_BANKS

    def _emit_post(self, step: Step) -> None:
        super()._emit_post(step)
        self._note([step.input, step.taps, step.parameters, step.table, step.residual,
                    step.output])
        if step.sums is not None:
            assert step.sums.bank is not None
            self.open_banks.remove(step.sums.bank)

    def _emit_store(self, step: Step, task: StoreTask) -> None:
        super()._emit_store(step, task)
        self._note([task.buffer], task.tensor)


def recorded(seed: int, config: AcceleratorConfig) -> Recorder:
    graph = random_network(seed, multiplier_bits=config.multiplier_bits, blocks=2 + seed % 5)
    plan = Planner(optimize(graph, config), config, keep_tensors=False).run(Constants(config))
    recorder = Recorder(config, plan.stages)
    recorder.run()
    return recorder


@pytest.mark.parametrize("name", list(SEEDS))
def test_what_shares_addresses_is_never_alive_at_the_same_time(name: str) -> None:
    config = CONFIGS[name]
    depths: dict[object, int] = {
        Target.FEATURE: config.feature_depth, Target.WEIGHT: config.weight_depth,
        Target.TAPS: config.tap_depth, Target.PARAMETER: config.parameter_depth,
        Target.TABLE: TABLE_BYTES}
    shared = 0
    for seed in SEEDS[name]:
        lives = recorded(seed, config).lives()
        for life in lives:
            assert life.address >= 0
            assert life.memory == "scratch" or life.address + life.size <= depths[life.memory]
        for one, other in itertools.combinations(lives, 2):
            assert not one.clashes(other), (seed, one, other)
            shared += one.memory == other.memory and one.address == other.address
    assert shared > 0  # or nothing has been tried


def test_every_step_is_emitted_once_with_its_loads_before_it() -> None:
    recorder = recorded(401, TINY)
    schedule = recorder.schedule
    assert len(schedule.instructions) == len(schedule.layers)
    tasks = [task for step in recorder.steps for task in step.loads]
    stores = [task for step in recorder.steps for task in step.stores]
    assert all(task.done for task in tasks)
    assert len(schedule.instructions) == len(recorder.steps) + len(tasks) + len(stores)
    for task in tasks:
        first = recorder.buffers[task.buffer][0]
        assert isinstance(schedule.instructions[first], Load)


def test_loads_come_before_the_layer_that_needs_them() -> None:
    schedule = recorded(401, TINY).schedule
    computing = [None if isinstance(i, Load) else layer
                 for i, layer in zip(schedule.instructions, schedule.layers, strict=True)]
    early = 0
    for index, instruction in enumerate(schedule.instructions[:-1]):
        if isinstance(instruction, Load) and index:
            early += computing[index - 1] is not None and computing[index + 1] is not None
    assert early > 0


def test_arenas_of_a_stage_name_everything_on_chip() -> None:
    """A slot that an arena did not list would be free for loads that come early."""
    for seed in SEEDS["tiny"]:
        recorder = recorded(seed, TINY)
        arenas: list[Arena] = recorder.arenas
        for index, step in enumerate(recorder.steps):
            listed = {id(slot) for slot in arenas[recorder.stage_of[index]].slots}
            used = {id(buffer.slot) for buffer in step.buffers() if buffer.slot is not None}
            assert used <= listed, seed
