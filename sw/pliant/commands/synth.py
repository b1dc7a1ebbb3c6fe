"""`synth`: area and logic depth of a configuration, as tables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pliant.spec.config import AcceleratorConfig, ConfigError

if TYPE_CHECKING:
    from pliant_sim.synthesis.depth import Path
    from pliant_sim.synthesis.devices import Device
    from pliant_sim.synthesis.netlist import Area
    from pliant_sim.synthesis.report import Module, Report

SHOWN_PATHS = 40
"""Longest paths that the table shows; JSON has them all."""

NUMBERS = tuple(field.name for field in dataclasses.fields(AcceleratorConfig)
                if field.type == "int")
BOARD_NUMBERS = ("dsp_slices",)
"""Fields that a variant can set: those of the configuration, and the one of its board that shapes
the hardware."""

_NUMBERED = re.compile(r"^(.*?)_?(\d+)$")


def variant(config: AcceleratorConfig, settings: Sequence[str]) -> AcceleratorConfig:
    """Return `config` with fields set as in ``cols=64``, and a name that says so; ConfigError."""
    values: dict[str, int] = {}
    around: dict[str, int] = {}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in NUMBERS + BOARD_NUMBERS or not value.isdecimal():
            raise ConfigError(f"setting {setting!r} is not FIELD=NUMBER; fields: "
                              f"{', '.join(NUMBERS + BOARD_NUMBERS)}")
        (around if field in BOARD_NUMBERS else values)[field] = int(value)
    name = ",".join((config.name, *settings))
    return dataclasses.replace(
        config, name=name, board=dataclasses.replace(config.board, **around),
        **values)  # type: ignore[arg-type]


def chosen(
    config: AcceleratorConfig, settings: Sequence[str], device_name: str | None
) -> tuple[AcceleratorConfig, Device]:
    """Return the variant of `config`, and the device called so or else its own.

    Raises
    ------
    ConfigError, DeviceError
        The message says what can be done.
    """
    from pliant_sim.synthesis.devices import default_device, device

    part = device(device_name) if device_name else default_device(config.name)
    return variant(config, settings), part


def synth(
    config: AcceleratorConfig, *, settings: Sequence[str], device_name: str | None, unit: str,
    plain_array: bool, console: Console,
) -> Report:
    """Synthesise `config` with `settings`, or one unit of it.

    Raises
    ------
    ConfigError, DeviceError, UnitError, YosysError
        The message says what can be done.
    """
    from pliant_sim.synthesis.report import report

    varied, part = chosen(config, settings, device_name)
    with console.status("") as status:
        return report(varied, part, unit, plain_array=plain_array,
                      progress=lambda name: status.update(f"synthesising {name}"))


def tables(result: Report) -> Group:
    """Return the report as tables."""
    title = (f"{result.config}{f', {result.unit}' if result.unit else ''} on {result.device}: "
             f"{result.yosys}, {result.array_kind}, "
             f"{result.dsp_packing}, {result.seconds:.0f} s")
    lines = [title]
    if result.array:
        lines.append(f"matrix array: {result.array['macs']} MACs, "
                     f"{result.array['lut_per_mac']:.2f} LUT/MAC, "
                     f"{result.array['mac_per_dsp']:.2f} MAC/DSP")
    return Group(Text("\n".join(lines)), _area_table(result), _depth_table(result),
                 _path_table(result))


def _area_table(result: Report) -> Table:
    table = Table(title="area")
    table.add_column("unit")
    for name in ("LUT", "as memory", "FF", "CARRY4", "DSP", "RAMB36", "URAM"):
        table.add_column(name, justify="right")
    for label, area in _rows(result.modules):
        table.add_row(label, *_cells(area))
    table.add_section()
    table.add_row("device", *_cells(result.available))
    table.add_row("left", *_cells(result.left))
    return table


def _cells(area: Area) -> list[str]:
    values = (area.lut, area.lut_memory, area.ff, area.carry, area.dsp, area.block_rams, area.uram)
    return [f"{value:g}" if value else "" for value in values]


def _rows(modules: list[Module]) -> list[tuple[str, Area]]:
    """Return the tree's lines: modules indented, equal numbered siblings as one line."""
    rows: list[tuple[str, Area]] = []
    seen: set[str] = set()
    for module in modules:
        names = module.path.split(".") if module.path else ["core"]
        if any(".".join(names[:depth]) in seen for depth in range(1, len(names))):
            continue
        label = names[-1]
        match = _NUMBERED.match(label)
        if match:
            same = [other for other in modules if _is_sibling(other, module, match[1])]
            if len(same) > 1:
                if same[0] is not module:
                    seen.add(module.path)
                    continue
                label = f"{len(same)} x {label}"
        rows.append(("  " * (len(names) - (0 if module.path else 1)) + label, module.area))
    return rows


def _is_sibling(other: Module, module: Module, stem: str) -> bool:
    name = other.path.rpartition(".")
    match = _NUMBERED.match(name[2])
    return (name[0] == module.path.rpartition(".")[0] and match is not None and match[1] == stem
            and other.area == module.area)


def _depth_table(result: Report) -> Table:
    table = Table(title="longest paths by unit, in levels of logic")
    for name in ("unit", "between registers", "from or to a port", "with RAM and DSP delays"):
        table.add_column(name)
    for item in result.depths:
        table.add_row(item.path or result.unit or "core", *(
            _path(path) for path in (item.inside, item.ports, item.hard_blocks)))
    return table


def _path(path: Path | None) -> str:
    if path is None:
        return ""
    return f"{path.levels}: {path.start} to {path.end}"


def _path_table(result: Report) -> Table:
    table = Table(title=f"longest paths of the whole, {len(result.paths)} registers")
    for name in ("levels", "from", "to", "through"):
        table.add_column(name)
    for path in result.paths[:SHOWN_PATHS]:
        table.add_row(str(path.levels), path.start, f"{path.end} ({path.end_kind})",
                      " ".join(path.through[-3:]))
    return table
