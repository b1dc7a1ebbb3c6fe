"""One network on the RTL as a whole: every layer checked, and where its cycles went."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.program import Program
from pliant_sim.comparison import Comparison, compare
from pliant_sim.layer_cycles import LayerCycles, layer_cycles
from pliant_sim.rtl import MemoryTiming, RtlMachine, RtlResult
from pliant_sim.simulator import InstructionSimulator

SIMULATOR, RTL = "instruction simulator", "RTL"

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """A network on one configuration, batch 1.

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
        Every tensor that the program leaves in memory is the integer graph's, on the instruction
        simulator and on the RTL.
    rtl_seconds : float
        Wall-clock time of the RTL run, its build excluded.
    rtl_kilocycles_per_second : float
    ddr_bytes : int
        Read and written, instructions included.
    estimated_cycles : int
        Of the whole network by the compiler's cycle model: the sum over its layers.
    estimate_error : float
        ``estimated_cycles / cycles - 1``.
    median_layer_error : float
        Median over the layers of the magnitude of :attr:`LayerCycles.estimate_error`.
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
        What was compared with the integer graph, and what differs.
    instructions : int
    compile_seconds, evaluate_seconds, simulator_seconds : float
        Wall-clock times of compiler, integer graph and instruction simulator.
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


def bench(
    graph: Graph, image: NDArray[np.int8], config: AcceleratorConfig, *,
    progress: Progress = lambda stage, done, total: None,
) -> BenchResult:
    """Run a network on the RTL with the memory of the configuration's board.

    The program leaves the result of every layer in memory; that of a layer merged into the next
    one exists nowhere.

    Parameters
    ----------
    graph : Graph
        With one input.
    image : int8 array (channels, height, width)
        Cycles do not depend on it.
    config : AcceleratorConfig
        What the network is compiled for.
    progress : Progress
        Told what goes on.

    Raises
    ------
    pliant.compiler.errors.CompileError
        The network cannot be compiled for `config`.
    pliant_sim.rtl.HardwareFault
        The RTL stopped with a fault.
    """
    watch = _Stopwatch(progress)
    program = watch.time("compile", lambda: compile_graph(graph, config, keep_tensors=True))
    batch = image[np.newaxis]
    expected = watch.time("evaluate the integer graph", lambda: evaluate(
        graph, batch, multiplier_bits=config.multiplier_bits))
    kept = tuple(layer.output.name for layer in program.layers if layer.output is not None)
    simulated = watch.time("run the instruction simulator",
                           lambda: InstructionSimulator(config).run(program, [batch]))
    machine = watch.time("build the RTL (minutes the first time)", lambda: RtlMachine(config))
    total = len(program.instructions) // INSTRUCTION_BYTES
    run, seconds = _run(machine, program, image, lambda done: progress("run the RTL", done, total))
    comparisons = (
        compare(SIMULATOR, expected, simulated.tensors, kept),
        compare(RTL, expected, {name: run.tensor(name)[np.newaxis] for name in kept}, kept),
    )
    machine.close()
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
        layers=layers,
        memory=machine.core.timing, clock_mhz=config.board.clock_mhz,
        estimated_images_per_second=config.board.clock_mhz * 1e6 / run.cycles,
        counters=run.counters, comparisons=comparisons, instructions=total,
        compile_seconds=watch.seconds["compile"],
        evaluate_seconds=watch.seconds["evaluate the integer graph"],
        simulator_seconds=watch.seconds["run the instruction simulator"],
    )


class _Stopwatch:
    """Runs stages, tells of them and keeps how many seconds each took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, function: Callable[[], Result]) -> Result:
        """Return what `function` returns."""
        self._progress(stage, 0, 1)
        start = time.perf_counter()
        result = function()
        self.seconds[stage] = time.perf_counter() - start
        self._progress(stage, 1, 1)
        return result


def _run(
    machine: RtlMachine, program: Program, image: NDArray[np.int8],
    progress: Callable[[int], None],
) -> tuple[RtlResult, float]:
    """Return a traced run and its wall-clock seconds."""
    progress(0)
    machine.load(program)
    start = time.perf_counter()
    run = machine.run(program, [image], trace=True, progress=progress)
    seconds = time.perf_counter() - start
    progress(len(program.instructions) // INSTRUCTION_BYTES)
    return run, seconds
