"""`synth --grow`: how the area follows the fields of a configuration, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pliant.commands.synth import chosen, variant
from pliant.spec.config import AcceleratorConfig, ConfigError

if TYPE_CHECKING:
    from pliant_sim.synthesis.growth import Growth, Sweep
    from pliant_sim.synthesis.netlist import Area

SEPARATOR = ":"
"""Between a value and the fields that it brings along."""

RESOURCES = ("LUT", "FF", "CARRY4", "DSP", "RAMB36", "URAM")

Values = dict[str, AcceleratorConfig]


def variants(config: AcceleratorConfig, request: str) -> tuple[str, Values]:
    """Return the field of a request and its variants of `config` by value.

    A request is ``cols=16:axi_data_bytes=16,32,64``: values of one field, of which each may bring
    settings of other fields along that a legal configuration needs.

    Raises
    ------
    ConfigError
        The request is not of this form, or a variant is no legal configuration.
    """
    field, _, text = request.partition("=")
    values = text.split(",")
    if len(values) < 2 or len(set(values)) < len(values):
        raise ConfigError(f"--grow {request!r} is not FIELD=NUMBER,NUMBER,...: "
                          "two different values or more")
    found = {}
    for value in values:
        settings = f"{field}={value}".split(SEPARATOR)
        try:
            found[value] = variant(config, settings)
        except ConfigError as error:
            raise ConfigError(
                f"--grow {request!r}: {error}; a value can bring other fields along: "
                f"{settings[0]}{SEPARATOR}FIELD=NUMBER") from error
    return field, found


def growth(
    config: AcceleratorConfig, *, grown: Sequence[str], settings: Sequence[str],
    device_name: str | None, unit: str, plain_array: bool, console: Console,
) -> Growth:
    """Synthesise `config` with `settings`, or one unit of it, over the values `grown` asks for.

    Several fields are varied one at a time. Nothing is synthesised unless all variants are legal.

    Raises
    ------
    ConfigError, DeviceError, UnitError, YosysError
        The message says what can be done.
    """
    from pliant_sim.synthesis.growth import grow

    base, part = chosen(config, settings, device_name)
    fields: dict[str, Values] = {}
    for request in grown:
        field, values = variants(base, request)
        if field in fields:
            raise ConfigError(f"--grow has field {field!r} twice")
        fields[field] = values
    with console.status("") as status:
        return grow(base, fields, part, unit, plain_array=plain_array,
                    progress=lambda name: status.update(f"synthesising {name}"))


def growth_tables(result: Growth) -> Group:
    """Return the growth as tables: for each field the whole, and the units step by step."""
    title = (f"{result.config}{f', {result.unit}' if result.unit else ''} on {result.device}: "
             f"{result.yosys}, {result.array_kind}, {result.dsp_packing}")
    shown: list[Text | Table] = [Text(title)]
    for sweep in result.sweeps:
        shown += [_whole_table(sweep, result.available), _step_table(sweep)]
    return Group(*shown)


def _whole_table(sweep: Sweep, available: Area) -> Table:
    table = Table(title=f"growth with {sweep.field}, against {sweep.values[sweep.reference]}")
    table.add_column(sweep.field)
    for name in (*RESOURCES, "LUT/MAC", "MAC/DSP", "array LUT/MAC", "array MAC/DSP", "levels"):
        table.add_column(name, justify="right")
    reference = sweep.variants[sweep.reference].area
    for value, item in zip(sweep.values, sweep.variants, strict=True):
        ratios = (item.lut_per_mac, item.mac_per_dsp, item.array.get("lut_per_mac", 0),
                  item.array.get("mac_per_dsp", 0))
        table.add_row(value, *_plain(item.area), *(f"{ratio:.2f}" if ratio else ""
                                                   for ratio in ratios), str(item.levels))
        if any(_numbers(item.change)):
            table.add_row("", *map(_change, _numbers(item.change), _numbers(reference)))
    table.add_section()
    table.add_row("device", *_plain(available))
    return table


def _step_table(sweep: Sweep) -> Table:
    table = Table(title=f"units that change with {sweep.field}")
    for name in ("step", "unit"):
        table.add_column(name)
    for name in RESOURCES:
        table.add_column(name, justify="right")
    names = zip(sweep.values, sweep.values[1:], sweep.variants[1:], strict=False)
    for before, value, item in names:
        label = f"{before} to {value}"
        for unit, change in item.steps.items():
            if any(_numbers(change)):
                table.add_row(label, unit, *(f"{number:+g}" if number else ""
                                             for number in _numbers(change)))
                label = ""
        table.add_section()
    return table


def _numbers(area: Area) -> tuple[float, ...]:
    return area.lut, area.ff, area.carry, area.dsp, area.block_rams, area.uram


def _plain(area: Area) -> list[str]:
    return [f"{value:g}" if value else "" for value in _numbers(area)]


def _change(change: float, reference: float) -> str:
    """Return a change against a reference, in units and in percent."""
    if not change:
        return ""
    return f"{change:+g}, {change / reference:+.1%}" if reference else f"{change:+g}"
