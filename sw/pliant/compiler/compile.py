"""From integer graph to program: the passes in their order."""

from __future__ import annotations

from collections.abc import Callable

from pliant.compiler.buffers import Arena
from pliant.compiler.emission import LayerSteps
from pliant.compiler.fuse import fuse_add, fuse_clip, fuse_lookup
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Graph
from pliant.compiler.lower import lower
from pliant.compiler.memory_plan import Constants, DdrTensor, place_tensors
from pliant.compiler.operation import operations
from pliant.compiler.schedule import Schedule, Scheduler
from pliant.compiler.step import Step
from pliant.compiler.tiling import Tiling, choose_tiling
from pliant.compiler.tokens import place_tokens
from pliant.compiler.unfold import unfold_inputs
from pliant.compiler.validate import validate_graph, validate_operation
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import End
from pliant.spec.program import LayerInfo, Program

FUSING: tuple[Callable[[Graph], Graph], ...] = (
    fuse_clip,  # ReLU into convolutions
    fuse_add,  # additions into convolutions
    fuse_clip,  # ReLU into additions
    fuse_lookup,
    fuse_clip,  # bounds into tables
)

Stages = Callable[[str, Graph], None]
"""Called with the name of a stage and the graph after it."""


def compile_graph(
    graph: Graph,
    config: AcceleratorConfig,
    *,
    keep_tensors: bool = False,
    fuse: bool = True,
    stages: Stages | None = None,
) -> Program:
    """Compile an integer graph for one configuration.

    Parameters
    ----------
    graph : Graph
        The network.
    config : AcceleratorConfig
        What it will run on.
    keep_tensors : bool
        Give every tensor that is computed a place of its own in DDR and name it in the layer map,
        so that it can be read after a run. Instructions differ in addresses and tokens alone.
    fuse : bool
        Merge Clip, Add and Lookup into the layers before them. The tensor between two merged layers
        exists nowhere; compile with ``fuse=False`` to see each (a Clip of what was clipped or
        requantized follows from its result; the operand of an Add does not).
    stages : callable or None
        Called with the name and the graph of each stage, for printing and drawing.

    Raises
    ------
    CompileError
        Names the layer, the reason and the remedy.
    """
    validate_graph(graph)
    lowered = optimize(graph, config, fuse=fuse, stages=stages)
    for operation in operations(lowered):
        validate_operation(operation, config)
    places, scratch_bytes = place_tensors(lowered, config, reuse=not keep_tensors)
    constants = Constants(config)
    tilings, schedule = _schedule(lowered, config, places, constants)
    instructions = place_tokens([*schedule.instructions, End()], config)
    ends = [*schedule.layer_starts[1:], len(schedule.instructions)]
    layers = tuple(
        LayerInfo(
            name=" + ".join(operation.layers), kind=operation.kind, macs=operation.macs,
            estimated_cycles=tiling.cycles, instructions=((start, end),),
            output=places[operation.output.name].info if keep_tensors else None)
        for operation, tiling, start, end in zip(
            operations(lowered), tilings, schedule.layer_starts, ends, strict=True)
    )
    return Program(
        network=graph.name, config_name=config.name, fingerprint=config.fingerprint,
        instructions=b"".join(instruction.encode() for instruction in instructions),
        constants=constants.data(), scratch_bytes=scratch_bytes,
        inputs=tuple(places[tensor.name].info for tensor in lowered.inputs),
        outputs=tuple(places[name].info for name in lowered.outputs), layers=layers)


def optimize(
    graph: Graph, config: AcceleratorConfig, *, fuse: bool = True, stages: Stages | None = None
) -> Graph:
    """Return the lowered and, if `fuse`, fused graph; `stages` sees it after every pass."""
    def show(name: str, stage: Graph) -> Graph:
        if stages is not None:
            stages(name, stage)
        return stage

    show("graph", graph)
    lowered = show("lower", lower(graph, config))
    for fusing in FUSING if fuse else ():
        lowered = show(fusing.__name__, fusing(lowered))
    return show("unfold_inputs", unfold_inputs(lowered, config))


def _schedule(
    lowered: Graph, config: AcceleratorConfig, places: dict[str, DdrTensor], constants: Constants
) -> tuple[list[Tiling], Schedule]:
    """Tile the layers and put their instructions in order.

    Feature buffer arenas of consecutive layers start from opposite ends, so that a layer's first
    loads need not wait for the one before where both fit.
    """
    steps: list[Step] = []
    arenas: list[Arena] = []
    tilings: list[Tiling] = []
    tensors = lowered.tensors()
    for index, operation in enumerate(operations(lowered)):
        geometry = Geometry(operation, config, tensors[operation.inputs[0]].shape)
        tiling = choose_tiling(geometry)
        tilings.append(tiling)
        size = tiling.arena(operation.residual is not None)
        start = config.feature_depth - size if index % 2 else 0
        layer = LayerSteps(geometry, tiling, places, constants, layer=index,
                           first_step=len(steps), arena_start=start)
        steps += layer.steps
        arenas.append(layer.arena)
    return tilings, Scheduler(config, steps, arenas).run()
