"""Decides which layers overlap and which tensors stay on chip, and tiles all layers accordingly."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pliant.compiler.buffers import Arena, Slot
from pliant.compiler.chip import MAX_SIDE, ChipTensor, chip_size
from pliant.compiler.emission import LayerSteps
from pliant.compiler.errors import CompileError
from pliant.compiler.geometry import Geometry, halvings
from pliant.compiler.graph import Graph
from pliant.compiler.home import Home
from pliant.compiler.memory_plan import Constants, DdrTensor, place_tensors
from pliant.compiler.operation import consumers, operations
from pliant.compiler.overlap import interleave
from pliant.compiler.residents import Residents
from pliant.compiler.schedule import Stage
from pliant.compiler.stages import form_stages
from pliant.compiler.step import Step
from pliant.compiler.tile import OnChip, Placement, Tiling
from pliant.compiler.tiling import choose_tiling
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div

PART_SLOTS = 2
"""Parts of a tensor between overlapped layers: one is written while another is read."""
PARTS_DRAFTED = 6
"""Heights of a part that fit, from the largest on, that are compared by a rough estimate."""
COMPANION_SHARES = (4, 2)
"""Parts of the feature buffer that are tried for a layer beside those that read one another."""
PARTS_TRIED = 2
"""Of these, the best that are played on the model of the units."""


@dataclass(frozen=True)
class Chosen:
    """How a stage is computed: a tiling for each layer, rows of a part if two overlap.

    `cycles` are an estimate for the whole stage.
    """

    tilings: tuple[Tiling, ...]
    cycles: int
    part_rows: int | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a stage may rely on: room in the feature buffer, and what of its layers is on chip."""

    depth: int
    layers: tuple[OnChip, ...]


@dataclass(frozen=True)
class Plan:
    """The result: stages for the scheduler; estimates and results in DDR by layer and name."""

    stages: list[Stage]
    estimated_cycles: list[int]
    tensors: dict[str, DdrTensor]
    scratch_bytes: int


class Planner:
    """Plans one network.

    Parameters
    ----------
    graph : Graph
        Lowered.
    config : AcceleratorConfig
    keep_tensors : bool
        Store all results in DDR, each in a place of its own.
    """

    def __init__(self, graph: Graph, config: AcceleratorConfig, *, keep_tensors: bool) -> None:
        self.graph = graph
        self.config = config
        self.keep = keep_tensors
        self.operations = operations(graph)
        tensors = graph.tensors()
        self.geometries = [Geometry.of(operation, config, tensors)
                           for operation in self.operations]
        self.stages = form_stages(self.operations, consumers(graph))
        drafts, _ = place_tensors(graph, config, reuse=False)
        self._drafts = {name: Home(ddr) for name, ddr in drafts.items()}
        self.residents = Residents(config.feature_depth)
        self._signatures = [geometry.signature() for geometry in self.geometries]
        self._known: dict[object, Chosen] = {}

    def run(self, constants: Constants) -> Plan:
        """Return the plan; weights, parameters and tables go to `constants`."""
        self._split_slow_stages()
        self._choose_residents()
        chosen = [self._best(stage, self._surroundings(i)) for i, stage in enumerate(self.stages)]
        between = {self.operations[stage[0]].output.name
                   for stage in self.stages if self._chain(stage) == 2}
        on_chip = set() if self.keep else between | set(self.residents)
        tensors, scratch = place_tensors(
            self.graph, self.config, reuse=not self.keep, without=on_chip, stages=self.stages)
        shapes = self.graph.tensors()
        homes = {name: Home(tensors.get(name)) for name in shapes}
        for name, resident in self.residents.items():
            chip = ChipTensor(self.config, shapes[name].shape, [resident.slot])
            homes[name] = Home(tensors.get(name), chip)
        stages: list[Stage] = []
        estimates: list[int] = []
        for index, (stage, choice) in enumerate(zip(self.stages, chosen, strict=True)):
            start, end = self.residents.gap(index)
            size = self._arena_size(stage, choice)
            steps, slots, _ = self._steps(
                stage, choice, homes, constants, end - size if index % 2 else start)
            stages.append(Stage(steps, Arena([*slots, *self.residents.live(index)])))
            estimates += _shares(choice)
        return Plan(stages, estimates, tensors, scratch)

    # Stages

    def _chain(self, stage: tuple[int, ...]) -> int:
        """Return how many layers of a stage, from the first on, read one another."""
        first, *others = (self.operations[layer] for layer in stage)
        return 2 if others and first.output.name in others[0].inputs else 1

    def _split_slow_stages(self) -> None:
        """Compute layers one after the other where overlap does not pay or does not fit."""
        self.stages = [part for stage in self.stages for part in self._split(stage)]

    def _split(self, stage: tuple[int, ...]) -> list[tuple[int, ...]]:
        if len(stage) == 1:
            return [stage]
        apart = [*self._split(stage[:-1]), stage[-1:]]
        try:
            together = self._alone(stage)
        except CompileError:
            return apart
        return [stage] if together < sum(map(self._alone, apart)) else apart

    def _alone(self, stage: tuple[int, ...]) -> int:
        """Return the cycles of a stage with the whole feature buffer for itself."""
        return self._best(stage, Surroundings(
            self.config.feature_depth, tuple(OnChip() for _ in stage))).cycles

    def _best(self, stage: tuple[int, ...], room: Surroundings) -> Chosen:
        """Return the fastest way to compute a stage; CompileError if it does not fit.

        Equal layers are tiled once.
        """
        key = room, self._chain(stage), *(self._signatures[layer] for layer in stage)
        if key not in self._known:
            self._known[key] = self._compute(stage, room)
        return self._known[key]

    def _compute(self, stage: tuple[int, ...], room: Surroundings) -> Chosen:
        if len(stage) == 1:
            tiling = choose_tiling(self.geometries[stage[0]], Placement(
                depth=room.depth, on_chip=room.layers[0]))
            return Chosen((tiling,), tiling.cycles)
        best: Chosen | None = None
        drafts = sorted(self._drafts_of(stage, room), key=lambda choice: choice.cycles)
        for choice in drafts[:PARTS_TRIED]:
            _, _, cycles = self._steps(stage, choice, self._draft_homes(stage, room),
                                       Constants(self.config), 0)
            if best is None or cycles < best.cycles:
                best = Chosen(choice.tilings, cycles, choice.part_rows)
        if best is None:
            raise CompileError(self.operations[stage[0]].name, "it cannot overlap the next layer",
                               "compute them one after the other")
        return best

    def _drafts_of(self, stage: tuple[int, ...], room: Surroundings) -> Iterator[Chosen]:
        """Yield ways to compute a stage of several layers, with rough estimates."""
        if len(stage) * self.config.cols > self.config.parameter_depth:
            return  # each holds the records of a tile
        chain = self._chain(stage)
        matrices = sum(self.geometries[layer].matrix for layer in stage)
        if chain == len(stage):
            yield from itertools.islice(
                self._chains(stage, room, room.depth, matrices), PARTS_DRAFTED)
            return
        last = self.geometries[stage[-1]]
        for share in COMPANION_SHARES:
            try:
                companion = choose_tiling(last, Placement(
                    depth=room.depth // share, on_chip=room.layers[-1], matrices=matrices,
                    companion=True))
            except CompileError:
                continue
            for choice in itertools.islice(self._chains(
                    stage[:chain], room, room.depth - companion.arena(), matrices), PARTS_DRAFTED):
                yield Chosen((*choice.tilings, companion), max(choice.cycles, companion.cycles),
                             choice.part_rows)

    def _chains(
        self, stage: tuple[int, ...], room: Surroundings, depth: int, matrices: int
    ) -> Iterator[Chosen]:
        """Yield ways to compute layers of which each reads the one before."""
        geometries = [self.geometries[layer] for layer in stage]
        first = geometries[0]
        if len(stage) == 1:
            with contextlib.suppress(CompileError):
                tiling = choose_tiling(first, Placement(
                    depth=depth, on_chip=room.layers[0], matrices=matrices))
                yield Chosen((tiling,), tiling.cycles)
            return
        for rows in halvings(first.rows.outputs):
            part_rows = first.zoom * rows
            left = depth - PART_SLOTS * chip_size(
                self.config, first.operation.output.shape, part_rows)
            try:
                one = choose_tiling(first, Placement(
                    depth=left // 2, tile_rows=rows, matrices=matrices,
                    on_chip=dataclasses.replace(room.layers[0], result=True)))
                two = choose_tiling(geometries[1], Placement(
                    depth=left - one.arena(), tile_rows=part_rows, matrices=matrices,
                    on_chip=dataclasses.replace(room.layers[1], sources=frozenset({0}))))
            except CompileError:
                continue
            short, long = sorted((one.cycles, two.cycles))
            parts = ceil_div(first.rows.outputs, rows)
            yield Chosen((one, two), long + short // parts, part_rows)

    def _draft_homes(self, stage: tuple[int, ...], room: Surroundings) -> dict[str, Home]:
        """Return homes as `room` says, at addresses of no meaning."""
        homes = dict(self._drafts)
        names: dict[str, bool] = {}
        for layer, on_chip in zip(stage, room.layers, strict=True):
            operation = self.operations[layer]
            names |= {name: i in on_chip.sources for i, name in enumerate(operation.windows)}
            names |= {name: i in on_chip.displacements
                      for i, name in enumerate(operation.displacements)}
            names[operation.output.name] = on_chip.result
            if operation.residual is not None:
                names[operation.inputs[-1]] = on_chip.residual
        if self._chain(stage) == 2:
            # Not stored, or the estimate would know of keep_tensors.
            between = self.operations[stage[0]].output.name
            homes[between] = Home()
            del names[between]
        for name, held in names.items():
            if held:
                shape = self.graph.tensors()[name].shape
                size = chip_size(self.config, shape)
                homes[name] = Home(chip=ChipTensor(self.config, shape, [Slot(0, size)]))
        return homes

    def _arena_size(self, stage: tuple[int, ...], choice: Chosen) -> int:
        size = sum(tiling.arena() for tiling in choice.tilings)
        if choice.part_rows is not None:
            shape = self.operations[stage[0]].output.shape
            size += PART_SLOTS * chip_size(self.config, shape, choice.part_rows)
        return size

    def _steps(
        self, stage: tuple[int, ...], choice: Chosen, homes: dict[str, Home],
        constants: Constants, start: int,
    ) -> tuple[list[Step], list[Slot], int]:
        """Return a stage's steps in program order, its slots and its cycles."""
        slots: list[Slot] = []
        if choice.part_rows is not None:
            tensor = self.operations[stage[0]].output
            size = chip_size(self.config, tensor.shape, choice.part_rows)
            slots = [Slot(start + turn * size, size) for turn in range(PART_SLOTS)]
            start += PART_SLOTS * size
            homes[tensor.name] = Home(homes[tensor.name].ddr, ChipTensor(
                self.config, tensor.shape, slots, choice.part_rows))
        layers = []
        for layer, tiling in zip(stage, choice.tilings, strict=True):
            steps = LayerSteps(self.geometries[layer], tiling, homes, constants, layer=layer,
                               arena_start=start, at_once=len(stage))
            start += tiling.arena()
            slots += steps.arena.slots
            layers.append(steps.steps)
        if len(layers) == 1:
            return layers[0], slots, choice.cycles
        order, cycles = interleave(layers, self.config)
        return order, slots, cycles

    # Tensors that stay on chip

    def _surroundings(self, index: int) -> Surroundings:
        start, end = self.residents.gap(index)
        operations = (self.operations[layer] for layer in self.stages[index])
        return Surroundings(end - start, tuple(
            OnChip(sources=self._resident(operation.windows),
                   displacements=self._resident(operation.displacements),
                   residual=(operation.residual is not None
                             and operation.inputs[-1] in self.residents),
                   result=operation.output.name in self.residents)
            for operation in operations))

    def _resident(self, names: Sequence[str]) -> frozenset[int]:
        return frozenset(i for i, name in enumerate(names) if name in self.residents)

    def _choose_residents(self) -> None:
        """Keep tensors on chip, in the order of the network, where no stage gets slower by it."""
        tensors = self.graph.tensors()
        for name, (first, last) in self._lifetimes().items():
            before = self._cycles(first, last)
            resident = self.residents.place(
                chip_size(self.config, tensors[name].shape), first, last)
            if resident is None:
                continue
            self.residents[name] = resident
            try:
                worse = self._cycles(first, last) > before
            except CompileError:
                worse = True
            if worse:
                del self.residents[name]

    def _cycles(self, first: int, last: int) -> int:
        return sum(self._best(self.stages[index], self._surroundings(index)).cycles
                   for index in range(first, last + 1))

    def _lifetimes(self) -> dict[str, tuple[int, int]]:
        """Return first and last stage of every tensor that could stay on chip between stages."""
        made: dict[str, int] = {}
        lives: dict[str, tuple[int, int]] = {}
        for index, stage in enumerate(self.stages):
            for layer in stage:
                for name in self.operations[layer].inputs:
                    if name in made and made[name] != index:
                        lives[name] = made[name], index
                made[self.operations[layer].output.name] = index
        tensors = self.graph.tensors()
        return {name: lives[name] for name in made
                if name in lives and name not in self.graph.outputs
                and max(tensors[name].shape[1:]) <= MAX_SIDE - self._margin(name)}

    def _margin(self, name: str) -> int:
        """Return how far behind a tensor the windows begin that read it."""
        pads = (operation.window.padding for operation in self.operations
                if name in operation.windows)
        return max((max(pad.bottom, pad.right) for pad in pads), default=0)


def _shares(choice: Chosen) -> Sequence[int]:
    """Divide the cycles of a stage among its layers."""
    total = sum(tiling.cycles for tiling in choice.tilings)
    shares = [choice.cycles * tiling.cycles // max(1, total) for tiling in choice.tilings]
    shares[0] += choice.cycles - sum(shares)
    return shares
