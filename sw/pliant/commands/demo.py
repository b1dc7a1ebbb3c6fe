"""`demo`: the whole chain on the digits network, shown while it runs and as tables at the end."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pliant.commands.values import plain
from pliant.spec.config import AcceleratorConfig

if TYPE_CHECKING:
    from pliant_sim.demo import DemoResult


def demo(
    config: AcceleratorConfig, output: Path, *, images: int, console: Console
) -> DemoResult:
    """Run :func:`pliant_sim.demo.demo`, show its progress, write ``demo.json``.

    Parameters
    ----------
    config : AcceleratorConfig
        What the network is compiled for.
    output : Path
        Directory for ``demo.json`` and the Perfetto trace.
    images : int
        Held-out images that the RTL runs.
    console : Console
        Where progress goes.
    """
    # Set before PyTorch is imported: its threads would fight over few cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProgressDisplay(console) as display:
        from pliant_sim.demo import demo as function

        result = function(config, output, images=images, progress=display.report)
    output.mkdir(parents=True, exist_ok=True)
    (output / "demo.json").write_text(json.dumps(plain(result), indent=2) + "\n")
    return result


class ProgressDisplay:
    """Bars on a terminal; elsewhere a line when a stage is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(),
            TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(), console=console,
            disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> ProgressDisplay:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def report(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` parts of a stage are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._started[stage] = time.perf_counter()
            if not self._console.is_terminal:
                self._console.print(f"{stage} ...")
        self._bars.update(self._tasks[stage], completed=done)
        if done == total and not self._console.is_terminal:
            seconds = time.perf_counter() - self._started[stage]
            self._console.print(f"{stage}: {total} done in {seconds:.1f} s")


def tables(result: DemoResult, output: Path) -> RenderableType:
    """Return the result as tables and a verdict for people."""
    levels = Table(title=f"{result.network} on {result.config}: {result.layers} layers, "
                         f"{result.macs} useful MACs per image")
    levels.add_column("level")
    for name in ("images", "accuracy", "values compared", "different"):
        levels.add_column(name, justify="right")
    for level in result.levels:
        if level.comparison is None:
            compared, different = "reference", ""
        else:
            compared = f"{level.comparison.values:,}"
            different = str(sum(item.differing for item in level.comparison.differences))
        levels.add_row(level.name, str(level.images), f"{level.accuracy:.2%}", compared, different)

    figures = Table(show_header=False)
    figures.add_column()
    figures.add_column(justify="right")
    single = result.single_layer
    figures.add_row("cycles per image (RTL)", f"{result.cycles_per_image:,.0f}")
    figures.add_row("array used, whole network", f"{result.array_use:.1%}")
    figures.add_row(f"images per second at {result.clock_mhz} MHz (estimate)",
                    f"{result.estimated_images_per_second:,.0f}")
    figures.add_row("RTL simulation, kilocycles per CPU-second",
                    f"{result.rtl_kilocycles_per_cpu_second:,.0f}")
    figures.add_row(f"array used, single layer benchmark: {single.layer};\n"
                    f"DDR {single.bytes_per_cycle:g} bytes/cycle, {single.latency} cycles "
                    "latency", f"{single.array_use:.1%}")
    return Group(levels, figures, *_verdict(result, output))


def _verdict(result: DemoResult, output: Path) -> list[Text]:
    lines = []
    for level in result.levels:
        if level.comparison is not None:
            lines += [Text(str(item), style="red") for item in level.comparison.differences]
    if not result.single_layer.equal:
        lines.append(Text("single layer benchmark: the RTL differs from the integer graph",
                          style="red"))
    if result.equal:
        lines.append(Text(f"All {result.values:,} integers of all layers are equal (==) at every "
                          f"level. {result.seconds:.0f} s.", style="green"))
    else:
        lines.append(Text("The levels DIFFER.", style="bold red"))
    lines.append(Text(f"Figures: {output / 'demo.json'}. Timeline of one image: {result.trace}; "
                      "open it at https://ui.perfetto.dev."))
    return lines
