"""`bench`: whole networks on the RTL, with a table of where the cycles of each layer went."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pliant.commands.demo import ProgressDisplay
from pliant.commands.errors import explain
from pliant.commands.networks import CALIBRATED, IMAGENET, calibrated, network
from pliant.compiler.errors import CompileError
from pliant.compiler.graph import Graph
from pliant.spec.config import AcceleratorConfig

if TYPE_CHECKING:
    from pliant_sim.bench import BenchResult
    from pliant_sim.layer_cycles import LayerCycles


TABLE_WIDTH = 170

ERROR_MEANING = (
    "error: of the compiler's cycle model, by which it chose the tiling, against the RTL; median\n"
    "layer: the median magnitude over the layers, each of which begins where the one before ends")


def bench(name: str, config: AcceleratorConfig, *, console: Console) -> BenchResult:
    """Run :func:`pliant_sim.bench.bench` on a network by name and show its progress.

    Raises
    ------
    UnknownNetworkError
        No network has that name; the message lists those that there are.
    """
    # Set before PyTorch is imported: its threads would fight over few cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProgressDisplay(console) as display:
        display.report(f"quantize {name} and export it", 0, 1)
        graph, image = imported(name)
        display.report(f"quantize {name} and export it", 1, 1)
        from pliant_models.float_run import float_run
        from pliant_sim.bench import bench as function

        return function(graph, image, config, float_run=float_run(name), progress=display.report)


def imported(name: str) -> tuple[Graph, NDArray[np.int8]]:
    """Return the integer graph of a network and one image, int8 (channels, height, width)."""
    known = network(name)
    if name in CALIBRATED:  # graph and images at once: each alone would build the network
        graph, images = calibrated(name, 1)
        return graph, images[0]
    return known.graph(), known.images()[0][0]


def bench_all(
    config: AcceleratorConfig, *, console: Console
) -> tuple[list[BenchResult], dict[str, str]]:
    """Run every ImageNet network; return the results, and messages of those that do not compile."""
    results, errors = [], {}
    for name in IMAGENET:
        console.print(f"{name} on {config.name}")
        try:
            results.append(bench(name, config, console=console))
        except CompileError as error:
            errors[name] = explain(error) or str(error)
    return results, errors


def wide_console() -> Console:
    """Return a console for stdout that is wide enough for the tables, whatever the terminal is."""
    console = Console()
    return console if console.width >= TABLE_WIDTH else Console(width=TABLE_WIDTH)


def network_table(results: Iterable[BenchResult]) -> RenderableType:
    """Return one row for each network."""
    table = Table(box=box.SIMPLE)
    for name in ("network", "config"):
        table.add_column(name)
    for name in ("MMACs", "kcycles", "array used", "error", "median layer", "DDR MB",
                 "DDR B/cycle", "RTL s", "kcycles/s", "images/s (estimate)", "layers equal"):
        table.add_column(name, justify="right")
    results = list(results)
    for result in results:
        table.add_row(
            result.network, result.config, f"{result.macs / 1e6:,.0f}",
            f"{result.cycles / 1e3:,.0f}", f"{result.utilization:.1%}",
            f"{result.estimate_error:+.1%}", f"{result.median_layer_error:.1%}",
            f"{result.ddr_bytes / 1e6:.1f}", f"{result.ddr_bytes / result.cycles:.1f}",
            f"{result.rtl_seconds:.0f}", f"{result.rtl_kilocycles_per_second:.0f}",
            f"{result.estimated_images_per_second:.1f}",
            "all" if result.bit_exact else "DIFFERENT")
    return Group(table, Text(ERROR_MEANING), *_memories(results), *_speeds(results),
                 *_differences(results))


def layer_table(result: BenchResult) -> RenderableType:
    """Return a row for each layer, one for each kind of layer, and the whole network's figures.

    Layers that overlap share a row.
    """
    from pliant_sim.layer_cycles import STALLS

    table = Table(box=box.SIMPLE, title=f"{result.network} on {result.config}: cycles by layer")
    table.add_column("layer")
    table.add_column("kind")
    for name in ("MMACs", "cycles", "estimate", "error", "array used", "B/cycle", *STALLS):
        table.add_column(name, justify="right")
    for layer in result.layers:
        table.add_row(layer.name, layer.kind, *_figures([layer], result))
    table.add_section()
    kinds: dict[str, list[LayerCycles]] = defaultdict(list)
    for layer in result.layers:
        kinds[layer.kind].append(layer)
    for kind, layers in kinds.items():
        count = sum(layer.layers for layer in layers)
        table.add_row(f"{count} layers", kind, *_figures(layers, result))
    table.add_section()
    table.add_row("whole network", "", *_figures(result.layers, result))
    meaning = [Text(f"  {name}: {doc}", style="dim") for name, doc in STALLS.items()]
    return Group(table, *meaning, network_table([result]))


def _figures(layers: Iterable[LayerCycles], result: BenchResult) -> list[str]:
    """Return the cells of layers taken together."""
    layers = list(layers)
    cycles = sum(layer.cycles for layer in layers)
    estimate = sum(layer.estimated_cycles for layer in layers)
    macs = sum(layer.macs for layer in layers)
    peak = result.macs / (result.utilization * result.cycles)
    stalls = {cause: sum(layer.stalls[cause] for layer in layers) for cause in layers[0].stalls}
    return [
        f"{macs / 1e6:,.1f}", f"{cycles:,}", f"{estimate:,}",
        f"{estimate / max(1, cycles) - 1:+.1%}", f"{macs / (peak * max(1, cycles)):.1%}",
        f"{sum(layer.ddr_bytes for layer in layers) / max(1, cycles):.1f}",
        *(f"{amount / max(1, cycles):.1%}" if amount else "" for amount in stalls.values()),
    ]


def _memories(results: Iterable[BenchResult]) -> list[Text]:
    texts = {
        result.config: f"{result.config}: {result.clock_mhz} MHz aimed at; DDR model "
        f"{result.memory.bytes_per_cycle:g} bytes/cycle, read latency {result.memory.latency} "
        f"cycles, {result.memory.outstanding} bursts outstanding"
        for result in results}
    return [Text(text) for text in texts.values()]


def _speeds(results: Iterable[BenchResult]) -> list[Text]:
    """Return how the instruction simulator compares with PyTorch."""
    return [Text(
        f"{result.network}: instruction simulator {result.simulator_seconds:.2f} s (first run "
        f"{result.simulator_first_seconds:.2f} s), {result.simulator_slowdown:.1f} times PyTorch "
        f"float32 on one core ({result.float_seconds:.3f} s)")
        for result in results if result.float_seconds is not None]


def _differences(results: Iterable[BenchResult]) -> list[Text]:
    lines = []
    for result in results:
        for comparison in result.comparisons:
            lines += [Text(f"{result.network}: {item}", style="red")
                      for item in comparison.differences]
            if comparison.equal:
                lines.append(Text(
                    f"{result.network}: {comparison.values:,} integers of {comparison.tensors} "
                    f"tensors on the {comparison.level} == integer graph", style="green"))
    return lines
