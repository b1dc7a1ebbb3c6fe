"""The whole chain on scikit-learn's digits: model, integer graph, simulator and RTL, compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import AcceleratorConfig
from pliant.spec.program import Program
from pliant_sim.comparison import GRAPH, MODEL, RTL, SIMULATOR, Comparison, compare, merge
from pliant_sim.rtl import RtlMachine, RtlResult
from pliant_sim.simulator import InstructionSimulator
from pliant_sim.single_layer import SingleLayer, run_single_layer
from pliant_sim.stopwatch import Progress, Stopwatch, silent

if TYPE_CHECKING:
    from pliant_models.digits import Golden

MIN_RTL_IMAGES = 100

Tensors = dict[str, NDArray[np.int8]]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level: on how many images, how many of them right, and how it compares."""

    name: str
    images: int
    accuracy: float
    comparison: Comparison | None


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found.

    Attributes
    ----------
    equal : bool
        Every integer of every layer is the same at every level, the single layer's included.
    layers : int
        Layers of the integer graph; `tensors` are compared one by one.
    levels : tuple of Level
        Model first: the reference. It has no comparison.
    macs : int
        Useful multiply-accumulates of one image.
    cycles_per_image : float
        Mean over the RTL's images, with the memory model of the configuration's board.
    array_use : float
        Useful multiply-accumulates / (rows * cols * cycles).
    estimated_images_per_second : float
        At the clock the preset aims at; an estimate: no board was involved.
    rtl_kilocycles_per_cpu_second : float
        Speed of the simulated core in all runs together.
    single_layer : SingleLayer
        The array's use on one larger layer.
    trace : Path
        Perfetto trace of one image.
    seconds : float
        Wall-clock time of the whole demo.
    """

    config: str
    network: str
    equal: bool
    layers: int
    levels: tuple[Level, ...]
    macs: int
    cycles_per_image: float
    array_use: float
    clock_mhz: int
    estimated_images_per_second: float
    rtl_kilocycles_per_cpu_second: float
    single_layer: SingleLayer
    trace: Path
    seconds: float

    @property
    def values(self) -> int:
        """Integers compared with those of the model."""
        return sum(level.comparison.values for level in self.levels
                   if level.comparison is not None)


@dataclass(frozen=True)
class Variant:
    """One way to compile the network, and the layers whose results it leaves in memory."""

    program: Program
    tensors: tuple[str, ...]


def variants(graph: Graph, config: AcceleratorConfig) -> tuple[Variant, Variant, Variant]:
    """Return the network as it ships, with results kept, and with every single layer kept.

    A fused layer's inner tensor exists nowhere, so the third is compiled without fusing.
    """
    shipped = compile_graph(graph, config)
    kept = compile_graph(graph, config, keep_tensors=True)
    single = compile_graph(graph, config, keep_tensors=True, fuse=False)
    every = tuple(node.output.name for node in graph.nodes)
    stored = tuple(info.name for info in kept.kept)
    return Variant(shipped, graph.outputs), Variant(kept, stored), Variant(single, every)


def demo(
    config: AcceleratorConfig, output: Path, *, images: int = MIN_RTL_IMAGES,
    progress: Progress = silent,
) -> DemoResult:
    """Run the digits network at every level and compare all layers with ``==``.

    Parameters
    ----------
    config : AcceleratorConfig
        What the network is compiled for.
    output : Path
        Directory for the trace; made if needed.
    images : int
        Held-out images that the RTL runs, from MIN_RTL_IMAGES up to all; the other levels run all.
    progress : Progress
        Told what goes on.

    Raises
    ------
    ValueError
        `images` is out of range.
    pliant.compiler.errors.CompileError
        The network cannot be compiled for `config`.
    pliant_sim.rtl.HardwareFault
        The RTL stopped with a fault.
    """
    start = time.perf_counter()
    watch = Stopwatch(progress)
    golden = watch.time("load the trained network, evaluate it in float64", _golden)
    from pliant_models import digits

    count = len(golden.images)
    if not MIN_RTL_IMAGES <= images <= count:
        raise ValueError(f"images = {images} on the RTL must be {MIN_RTL_IMAGES} to {count}")

    graph, expected = golden.graph, golden.integers
    every = tuple(node.output.name for node in graph.nodes)
    logits = graph.outputs[0]

    def level(name: str, results: Tensors, comparison: Comparison | None) -> Level:
        labels = golden.labels[:len(results[logits])]
        return Level(name=name, images=len(labels), comparison=comparison,
                     accuracy=digits.accuracy(results[logits], labels))

    levels = [level(MODEL, expected, None)]

    evaluated = watch.time("evaluate the integer graph", lambda: evaluate(
        graph, golden.images, multiplier_bits=config.multiplier_bits))
    levels.append(level(GRAPH, evaluated, compare(GRAPH, expected, evaluated, every)))
    compiled = watch.time(f"compile for {config.name}", lambda: variants(graph, config))

    comparison, simulated = simulate_variants(config, compiled, golden.images, expected, progress)
    levels.append(level(SIMULATOR, simulated[-1], comparison))

    machine = watch.time("build the RTL (a minute the first time)", lambda: RtlMachine(config))
    comparison, hardware, runs = run_variants(
        machine, compiled, golden.images[:images], expected, progress)
    levels.append(level(RTL, hardware[-1], comparison))

    output.mkdir(parents=True, exist_ok=True)
    trace = write_trace_of(machine, compiled[0].program, golden.images[0], output)
    single = watch.time("run the single-layer benchmark", lambda: run_single_layer(machine))

    shipped = compiled[0].program
    cycles = sum(run.cycles for run in runs[0]) / images
    flat = [run for results in runs for run in results]
    return DemoResult(
        config=config.name, network=graph.name, layers=len(graph.nodes), levels=tuple(levels),
        equal=single.equal and all(
            item.comparison.equal for item in levels if item.comparison is not None),
        macs=shipped.macs, cycles_per_image=cycles,
        array_use=shipped.macs / (config.peak_macs_per_cycle * cycles),
        clock_mhz=config.board.clock_mhz,
        estimated_images_per_second=config.board.clock_mhz * 1e6 / cycles,
        rtl_kilocycles_per_cpu_second=speed(flat), single_layer=single, trace=trace,
        seconds=time.perf_counter() - start,
    )


def _golden() -> Golden:
    from pliant_models import digits

    return digits.golden()


def simulate_variants(
    config: AcceleratorConfig, compiled: Sequence[Variant], images: NDArray[np.int8],
    expected: Tensors, progress: Progress,
) -> tuple[Comparison, list[Tensors]]:
    """Run variants on the instruction simulator; return what differs, and the tensors of each."""
    simulator = InstructionSimulator(config)
    comparisons, tensors = [], []
    for index, variant in enumerate(compiled):
        progress("run the instruction simulator", index, len(compiled))
        result = simulator.run(variant.program, [images])
        tensors.append(dict(result.tensors) | outputs_by_name(variant.program, result.outputs))
        comparisons.append(compare(SIMULATOR, expected, tensors[-1], variant.tensors))
    progress("run the instruction simulator", len(compiled), len(compiled))
    return merge(SIMULATOR, comparisons), tensors


def run_variants(
    machine: RtlMachine, compiled: Sequence[Variant], images: NDArray[np.int8], expected: Tensors,
    progress: Progress,
) -> tuple[Comparison, list[Tensors], list[list[RtlResult]]]:
    """Run variants on the RTL; return what differs, the tensors of each, and the runs of each."""
    comparisons, tensors, runs = [], [], []
    for index, variant in enumerate(compiled):
        def ahead(done: int, index: int = index) -> None:
            progress("run the RTL", index * len(images) + done, len(compiled) * len(images))

        found, results = run_rtl(machine, variant, images, ahead)
        tensors.append(found)
        comparisons.append(compare(RTL, expected, found, variant.tensors))
        runs.append(results)
    return merge(RTL, comparisons), tensors, runs


def run_rtl(
    machine: RtlMachine, variant: Variant, images: NDArray[np.int8],
    progress: Callable[[int], None],
) -> tuple[Tensors, list[RtlResult]]:
    """Run images one by one; return the variant's tensors of all of them, and each run."""
    collected: dict[str, list[NDArray[np.int8]]] = {name: [] for name in variant.tensors}
    runs = []
    for index, image in enumerate(images):
        progress(index)
        run = machine.run(variant.program, [image])
        for name, values in collected.items():
            values.append(run.tensor(name))
        runs.append(run)
    progress(len(images))
    return {name: np.stack(values) for name, values in collected.items()}, runs


def speed(runs: Iterable[RtlResult]) -> float:
    """Return simulated kilocycles per CPU-second of all runs together."""
    runs = list(runs)
    cycles = sum(run.simulated_cycles for run in runs)
    return cycles / sum(run.cpu_seconds for run in runs) / 1e3


def write_trace_of(
    machine: RtlMachine, program: Program, image: NDArray[np.int8], output: Path
) -> Path:
    """Run one image and write its timeline to ``<network>.pftrace``; return the path."""
    from pliant_sim.trace import write_trace

    path = output / f"{program.network}.pftrace"
    write_trace(path, program, machine.config, machine.run(program, [image], trace=True).events)
    return path


def outputs_by_name(program: Program, values: Sequence[NDArray[np.int8]]) -> Tensors:
    """Return the outputs of a program, given in its order, by their names."""
    return {info.name: value for info, value in zip(program.outputs, values, strict=True)}
