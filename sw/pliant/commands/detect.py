"""`demo detect`: the trained detector at every level, as tables and a picture with boxes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pliant.commands.demo import ProgressDisplay
from pliant.commands.values import plain
from pliant.spec.config import AcceleratorConfig

if TYPE_CHECKING:
    from pliant_sim.detect_demo import DetectResult


def detect(
    config: AcceleratorConfig, output: Path, *, images: int, console: Console
) -> DetectResult:
    """Run :func:`pliant_sim.detect_demo.detect`, show its progress, write ``detect.json``.

    Parameters
    ----------
    config : AcceleratorConfig
        What the network is compiled for.
    output : Path
        Directory for ``detect.json`` and the picture.
    images : int
        Scenes that every level runs.
    console : Console
        Where progress goes.
    """
    # Set before PyTorch is imported: its threads would fight over few cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProgressDisplay(console) as display:
        from pliant_sim.detect_demo import detect as function

        result = function(config, output, images=images, progress=display.report)
    output.mkdir(parents=True, exist_ok=True)
    (output / "detect.json").write_text(json.dumps(plain(result), indent=2) + "\n")
    return result


def tables(result: DetectResult, output: Path) -> RenderableType:
    """Return the result as tables and a verdict for people."""
    levels = Table(title=f"{result.network} on {result.config}: {result.images} scenes, "
                         f"{result.macs} useful MACs each")
    levels.add_column("level")
    for name in ("tensors", "values compared", "different"):
        levels.add_column(name, justify="right")
    for comparison in result.comparisons:
        different = sum(item.differing for item in comparison.differences)
        levels.add_row(comparison.level, str(comparison.tensors), f"{comparison.values:,}",
                       str(different))
    figures = Table(show_header=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_row(f"AP50 on these scenes, {result.objects} digits",
                    f"{result.average_precision:.2f}")
    figures.add_row("cycles per image (RTL)", f"{result.cycles_per_image:,.0f}")
    figures.add_row("array used, whole network", f"{result.array_use:.1%}")
    figures.add_row(f"images per second at {result.clock_mhz} MHz (estimate)",
                    f"{result.estimated_images_per_second:,.0f}")
    figures.add_row("RTL simulation, kilocycles per CPU-second",
                    f"{result.rtl_kilocycles_per_cpu_second:,.0f}")
    lines = [Text(str(item), style="red") for comparison in result.comparisons
             for item in comparison.differences]
    lines.append(Text(f"All integers of all layers are equal (==) at every level. "
                      f"{result.seconds:.0f} s.", style="green") if result.equal
                 else Text("The levels DIFFER.", style="bold red"))
    lines.append(Text(f"Boxes: {result.picture}. Figures: {output / 'detect.json'}."))
    return Group(levels, figures, *lines)
