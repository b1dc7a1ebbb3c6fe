"""The detector at every level: model, integer graph, simulator and RTL, compared; boxes drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pliant.compiler.reference import evaluate
from pliant.spec.config import AcceleratorConfig
from pliant_sim.comparison import GRAPH, MODEL, Comparison, compare
from pliant_sim.demo import run_variants, simulate_variants, speed, variants
from pliant_sim.rtl import RtlMachine
from pliant_sim.stopwatch import Progress, Stopwatch, silent

MAX_IMAGES = 12

SEED = 1
"""Of the scenes."""


@dataclass(frozen=True, kw_only=True)
class DetectResult:
    """What the demo of the detector found.

    Attributes
    ----------
    equal : bool
        Every integer of every layer is the same at every level.
    images : int
        Scenes that every level ran.
    objects : int
        Digits in them.
    average_precision : float
        AP50 of the boxes from the RTL's outputs on these few scenes.
    comparisons : tuple of Comparison
        Of each level with the model.
    macs : int
        Useful multiply-accumulates of one image.
    cycles_per_image : float
        Mean over the RTL's images, with the memory model of the configuration's board.
    array_use : float
        Useful multiply-accumulates / (rows * cols * cycles).
    estimated_images_per_second : float
        At the clock the preset aims at; an estimate: no board was involved.
    rtl_kilocycles_per_cpu_second : float
    picture : Path
        The scenes with the boxes.
    seconds : float
        Wall-clock time of the whole demo.
    """

    config: str
    network: str
    equal: bool
    images: int
    objects: int
    average_precision: float
    comparisons: tuple[Comparison, ...]
    macs: int
    cycles_per_image: float
    array_use: float
    clock_mhz: int
    estimated_images_per_second: float
    rtl_kilocycles_per_cpu_second: float
    picture: Path
    seconds: float


def detect(
    config: AcceleratorConfig, output: Path, *, images: int, progress: Progress = silent
) -> DetectResult:
    """Run the trained detector at every level, compare all layers with ``==``, draw the boxes.

    Parameters
    ----------
    config : AcceleratorConfig
        What the network is compiled for.
    output : Path
        Directory for the picture; made if needed.
    images : int
        Held-out scenes, 1 to MAX_IMAGES.
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
    if not 1 <= images <= MAX_IMAGES:
        raise ValueError(f"images = {images} must be 1 to {MAX_IMAGES}")
    from pliant_models.detection.average_precision import mean_average_precision
    from pliant_models.detection.decoding import decode_integers
    from pliant_models.detection.detector import NAME, load, output_scales
    from pliant_models.detection.drawing import draw
    from pliant_models.detection.scenes import CLASSES, scenes
    from pliant_models.export import model_integers
    from pliant_models.networks.detectors import export_detector

    start = time.perf_counter()
    watch = Stopwatch(progress)
    model = watch.time("load the trained detector", load)
    drawn = scenes(SEED, images)
    expected = watch.time(f"evaluate the {MODEL}", lambda: model_integers(model, drawn.real()))
    graph = watch.time("export the integer graph", lambda: export_detector(model, name=NAME))
    evaluated = watch.time("evaluate the integer graph", lambda: evaluate(
        graph, drawn.images, multiplier_bits=config.multiplier_bits))
    comparisons = [compare(GRAPH, expected, evaluated, tuple(expected))]
    compiled = watch.time(f"compile for {config.name}", lambda: variants(graph, config))

    comparison, _ = simulate_variants(config, compiled, drawn.images, evaluated, progress)
    comparisons.append(comparison)

    machine = watch.time("build the RTL (a minute the first time)", lambda: RtlMachine(config))
    comparison, found, runs = run_variants(machine, compiled, drawn.images, evaluated, progress)
    comparisons.append(comparison)

    shipped = found[0]
    detections = decode_integers(output_scales(graph),
                                 [shipped[name] for name in graph.outputs])
    output.mkdir(parents=True, exist_ok=True)
    picture = output / f"{NAME}.png"
    draw(drawn.pixels(), detections, picture)
    cycles = sum(run.cycles for run in runs[0]) / images
    macs = compiled[0].program.macs
    return DetectResult(
        config=config.name, network=graph.name, images=images,
        equal=all(comparison.equal for comparison in comparisons),
        objects=sum(len(labels) for labels in drawn.labels),
        average_precision=mean_average_precision(detections, drawn.boxes, drawn.labels, CLASSES),
        comparisons=tuple(comparisons), macs=macs, cycles_per_image=cycles,
        array_use=macs / (config.peak_macs_per_cycle * cycles),
        clock_mhz=config.board.clock_mhz,
        estimated_images_per_second=config.board.clock_mhz * 1e6 / cycles,
        rtl_kilocycles_per_cpu_second=speed([run for results in runs for run in results]),
        picture=picture, seconds=time.perf_counter() - start,
    )
