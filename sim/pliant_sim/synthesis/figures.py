"""The recorded areas that a change is held against.

``python -m pliant_sim.synthesis.figures`` measures them anew and writes them to figures.json beside
this file; a growth that is meant is committed that way.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from pliant.spec.config import preset
from pliant_sim.synthesis.devices import default_device
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.report import Report, report

RECORD = Path(__file__).with_name("figures.json")

CASES = {"tiny": ("tiny", "")}
"""What is recorded: configuration and unit, the whole core where that is empty."""

ALLOWED = 0.05
"""Growth that passes, as a part of the recorded figure."""

SLACK = 8
"""Growth that always passes: units of a few LUTs move by more than a part of themselves."""

Figures = dict[str, dict[str, float]]
"""For each unit its figures by name, and the longest path between registers of the whole."""


def measure(case: str) -> Figures:
    """Synthesise a case and return its figures."""
    name, unit = CASES[case]
    config = preset(name)
    return figures(report(config, default_device(name), unit))


def figures(result: Report) -> Figures:
    """Return what is recorded of a report: the whole and its units."""
    shown = {module.path: module.area for module in result.modules
             if module.path in {item.path for item in result.depths}}
    record: Figures = {path or "whole": {item.name: getattr(area, item.name)
                                         for item in fields(Area) if getattr(area, item.name)}
                       for path, area in shown.items()}
    record["whole"]["levels"] = result.paths[0].levels if result.paths else 0
    return record


def growth(recorded: Figures, measured: Figures) -> list[str]:
    """Return what grew by more than ALLOWED and SLACK, a line for each figure.

    Units that are new or gone count in the whole.
    """
    lines = []
    for unit, old in recorded.items():
        for name, value in measured.get(unit, {}).items():
            slack = SLACK if name in ("lut", "ff", "carry", "muxf", "lut_memory") else 0
            limit = old.get(name, 0) * (1 + ALLOWED) + slack
            if value > limit:
                lines.append(f"{unit}: {name} is {value:g}, recorded {old.get(name, 0):g}")
    return lines


def main() -> None:
    """Write the record."""
    record = {case: measure(case) for case in CASES}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
