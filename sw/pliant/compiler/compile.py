"""From integer graph to program: the passes in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pliant.compiler.arrange import arrange_channels
from pliant.compiler.fuse import fuse_add, fuse_clip, fuse_lookup, fuse_upsample
from pliant.compiler.graph import Graph, SelectChannels, Upsample
from pliant.compiler.lower import lower
from pliant.compiler.memory_plan import Constants
from pliant.compiler.operation import operations
from pliant.compiler.phases import split_phases
from pliant.compiler.plan import Planner
from pliant.compiler.schedule import Scheduler
from pliant.compiler.select import select_channels
from pliant.compiler.stages import order_companions
from pliant.compiler.tokens import place_tokens
from pliant.compiler.unfold import unfold_inputs
from pliant.compiler.upsample import delay_upsampling
from pliant.compiler.validate import validate_graph, validate_operation
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import End
from pliant.spec.program import LayerInfo, Program

FUSING: tuple[Callable[[Graph], Graph], ...] = (
    fuse_upsample,
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
        Give every tensor that is computed a place of its own in DDR and name those of `graph` in
        the layer map, so that they can be read after a run. Tensors that stay on chip are stored as
        well; else the instructions differ in addresses and tokens alone.
    fuse : bool
        Merge Clip, Add, Lookup and Upsample into the layers before them, and SelectChannels into
        those behind. The tensor between two merged layers exists nowhere; compile with
        ``fuse=False`` to see each (a Clip of what was clipped or requantized follows from its
        result; the operand of an Add does not).
    stages : callable or None
        Called with the name and the graph of each stage, for printing and drawing.

    Raises
    ------
    CompileError
        Names the layer, the reason and the remedy.
    GraphError
        A value of the graph is of another type than declared.
    """
    validate_graph(graph)
    lowered = optimize(graph, config, fuse=fuse, stages=stages)
    for operation in operations(lowered):
        validate_operation(operation, config)
    constants = Constants(config)
    plan = Planner(lowered, config, keep_tensors=keep_tensors).run(constants)
    schedule = Scheduler(config, plan.stages).run()
    instructions = place_tokens([*schedule.instructions, End()], config)
    shapes = {name: tensor.shape for name, tensor in graph.tensors().items()}
    layers = tuple(
        LayerInfo(
            name=" + ".join(operation.layers), kind=operation.kind, macs=operation.macs,
            estimated_cycles=cycles, instructions=_ranges(schedule.layers, index),
            output=plan.tensors[operation.output.name].info
            if keep_tensors and shapes.get(operation.output.name) == operation.output.network_shape
            else None)  # one before its upsampling is none of the graph's
        for index, (operation, cycles) in enumerate(
            zip(operations(lowered), plan.estimated_cycles, strict=True))
    )
    return Program(
        network=graph.name, config_name=config.name, fingerprint=config.fingerprint,
        instructions=b"".join(instruction.encode() for instruction in instructions),
        constants=constants.data(), scratch_bytes=plan.scratch_bytes,
        inputs=tuple(plan.tensors[tensor.name].info for tensor in lowered.inputs),
        outputs=tuple(plan.tensors[name].info for name in lowered.outputs), layers=layers)


def optimize(
    graph: Graph, config: AcceleratorConfig, *, fuse: bool = True, stages: Stages | None = None
) -> Graph:
    """Return the lowered and, if `fuse`, fused graph; `stages` sees it after every pass."""
    def show(name: str, stage: Graph) -> Graph:
        if stages is not None:
            stages(name, stage)
        return stage

    show("graph", graph)
    if fuse and any(isinstance(node, Upsample) for node in graph.nodes):
        graph = show("delay_upsampling", delay_upsampling(graph))
    lowered = show("lower", lower(graph, config))
    if any(isinstance(node, SelectChannels) for node in graph.nodes):
        if fuse:
            lowered = show("arrange_channels", arrange_channels(lowered, config))
        lowered = show("select_channels", select_channels(lowered, config, keep=not fuse))
    for fusing in FUSING if fuse else ():
        lowered = show(fusing.__name__, fusing(lowered))
    if fuse:
        lowered = show("split_phases", split_phases(lowered, config))
        lowered = show("order_companions", order_companions(lowered))
    return show("unfold_inputs", unfold_inputs(lowered, config))


def _ranges(layers: Sequence[int], index: int) -> tuple[tuple[int, int], ...]:
    """Return the half-open ranges of positions at which `layers` is `index`."""
    edges = np.flatnonzero(np.diff(np.array(layers) == index, prepend=False, append=False))
    return tuple((int(first), int(last)) for first, last in edges.reshape(-1, 2))
