"""One network on the RTL as a whole: every layer checked, and where its cycles went."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.program import Program
from pliant_sim.comparison import RTL, SIMULATOR, Comparison, compare, merge
from pliant_sim.layer_cycles import LayerCycles, layer_cycles
from pliant_sim.rtl import MemoryTiming, RtlMachine, RtlResult
from pliant_sim.simulator import InstructionSimulator
from pliant_sim.stopwatch import Progress, Stopwatch, first_and_best_seconds, silent


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """A network on one configuration, batch 1.

    Two programs run: the one that ships, from which all figures are, and one that keeps every
    layer's result in memory, by which the layers are checked.

    Attributes
    ----------
    network, config : str
    macs : int
        Useful multiply-accumulates of the whole network: no padding, no strided-away work.
    cycles : int
        RTL cycles from start to done, first and last layer, pooling and additions included.
    utilization : float
        ``macs / (rows * cols * cycles)``.
    bit_exact : bool
        The outputs of the program that ships, and every tensor that the other one keeps, are the
        integer graph's, on the instruction simulator and on the RTL.
    rtl_seconds : float
        Wall-clock time of the program that ships on the RTL: neither the RTL's build nor the run
        that checks the layers.
    rtl_kilocycles_per_second : float
    ddr_bytes : int
        Read and written, instructions included.
    estimated_cycles : int
        Of the whole network by the compiler's cycle model: the sum over its layers.
    estimate_error : float
        ``estimated_cycles / cycles - 1``.
    median_layer_error : float
        Median over `layers` of the magnitude of :attr:`LayerCycles.estimate_error`.
    layers : tuple of LayerCycles
    memory : MemoryTiming
        The DDR model: latency, bandwidth, outstanding bursts.
    clock_mhz : int
        What the configuration aims at.
    estimated_images_per_second : float
        At that clock; an estimate: no board was involved.
    counters : dict of int
        The core's performance counters.
    comparisons : tuple of Comparison
        What was compared with the integer graph, both programs together, and what differs.
    instructions : int
    compile_seconds, evaluate_seconds : float
        Wall-clock times of compiler and integer graph.
    simulator_seconds, simulator_first_seconds : float
        Processor time of the instruction simulator on one core, the best of several runs after the
        first; and of the first, which decodes the program.
    float_seconds : float or None
        The same best time of the network in float32 by whatever ran it, None if nothing did.
    simulator_slowdown : float or None
        ``simulator_seconds / float_seconds``.
    """

    network: str
    config: str
    macs: int
    cycles: int
    utilization: float
    bit_exact: bool
    rtl_seconds: float
    rtl_kilocycles_per_second: float
    ddr_bytes: int
    estimated_cycles: int
    estimate_error: float
    median_layer_error: float
    layers: tuple[LayerCycles, ...]
    memory: MemoryTiming
    clock_mhz: int
    estimated_images_per_second: float
    counters: dict[str, int]
    comparisons: tuple[Comparison, ...]
    instructions: int
    compile_seconds: float
    evaluate_seconds: float
    simulator_seconds: float
    simulator_first_seconds: float
    float_seconds: float | None
    simulator_slowdown: float | None


def bench(
    graph: Graph, image: NDArray[np.int8], config: AcceleratorConfig, *,
    float_run: Callable[[], object] | None = None, progress: Progress = silent,
) -> BenchResult:
    """Run a network on the RTL with the memory of the configuration's board.

    The result of a layer merged into the next one exists nowhere; all others are compared.

    Parameters
    ----------
    graph : Graph
        With one input.
    image : int8 array (channels, height, width)
        Cycles do not depend on it.
    config : AcceleratorConfig
        What the network is compiled for.
    float_run : callable, optional
        Runs the float network on one image; timed to compare the instruction simulator with.
    progress : Progress
        Told what goes on.

    Raises
    ------
    pliant.compiler.errors.CompileError
        The network cannot be compiled for `config`.
    pliant_sim.rtl.HardwareFault
        The RTL stopped with a fault.
    """
    watch = Stopwatch(progress)
    program = watch.time("compile", lambda: compile_graph(graph, config))
    keeping = watch.time("compile to keep every layer's result",
                         lambda: compile_graph(graph, config, keep_tensors=True))
    batch = image[np.newaxis]
    expected = watch.time("evaluate the integer graph", lambda: evaluate(
        graph, batch, multiplier_bits=config.multiplier_bits))

    def compared(
        level: str, outputs: list[NDArray[np.int8]], tensors: dict[str, NDArray[np.int8]]
    ) -> Comparison:
        named = {info.name: value for info, value in zip(program.outputs, outputs, strict=True)}
        return merge(level, [
            compare(level, expected, named, graph.outputs),
            compare(level, expected, tensors, [info.name for info in keeping.kept])])

    simulator = InstructionSimulator(config)
    first, best = watch.time("time the instruction simulator", lambda: first_and_best_seconds(
        lambda: simulator.run(program, [batch])))
    unquantized = None if float_run is None else watch.time(
        "time the float network", lambda: first_and_best_seconds(float_run)[1])
    shipped, kept = watch.time("run the instruction simulator", lambda: [
        simulator.run(item, [batch]) for item in (program, keeping)])
    comparisons = [compared(SIMULATOR, shipped.outputs, kept.tensors)]
    built = watch.time("build the RTL (minutes the first time)", lambda: RtlMachine(config))
    with built as machine:
        run, _ = _run(machine, keeping, image, "check every layer on the RTL", progress)
        tensors = {info.name: run.tensor(info.name)[np.newaxis] for info in keeping.kept}
        run, seconds = _run(machine, program, image, "run the RTL", progress)
        memory = machine.core.timing
    outputs = [value[np.newaxis] for value in run.outputs]
    comparisons.append(compared(RTL, outputs, tensors))
    layers = layer_cycles(program, config, run.events, run.cycles)
    estimate = sum(layer.estimated_cycles for layer in layers)
    beats = run.counters["read_beats"] + run.counters["write_beats"]
    return BenchResult(
        network=graph.name, config=config.name, macs=program.macs, cycles=run.cycles,
        utilization=program.macs / (config.peak_macs_per_cycle * run.cycles),
        bit_exact=all(comparison.equal for comparison in comparisons),
        rtl_seconds=seconds, rtl_kilocycles_per_second=run.cycles / seconds / 1e3,
        ddr_bytes=beats * config.axi_data_bytes,
        estimated_cycles=estimate, estimate_error=estimate / run.cycles - 1,
        median_layer_error=statistics.median(abs(layer.estimate_error) for layer in layers),
        layers=layers, memory=memory, clock_mhz=config.board.clock_mhz,
        estimated_images_per_second=config.board.clock_mhz * 1e6 / run.cycles,
        counters=run.counters, comparisons=tuple(comparisons), instructions=_length(program),
        compile_seconds=watch.seconds["compile"],
        evaluate_seconds=watch.seconds["evaluate the integer graph"],
        simulator_seconds=best, simulator_first_seconds=first, float_seconds=unquantized,
        simulator_slowdown=None if unquantized is None else best / unquantized,
    )


def _length(program: Program) -> int:
    return len(program.instructions) // INSTRUCTION_BYTES


def _run(
    machine: RtlMachine, program: Program, image: NDArray[np.int8], stage: str, progress: Progress
) -> tuple[RtlResult, float]:
    """Return a traced run and its wall-clock seconds."""
    total = _length(program)
    progress(stage, 0, total)
    machine.load(program)
    start = time.perf_counter()
    run = machine.run(program, [image], trace=True,
                      progress=lambda done: progress(stage, done, total))
    seconds = time.perf_counter() - start
    progress(stage, total, total)
    return run, seconds
