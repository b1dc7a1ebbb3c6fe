"""`synth --ecp5`: the clock of each unit on an ECP5, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pliant.commands.synth import chosen
from pliant.spec.config import AcceleratorConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pliant_sim.synthesis.yardstick import PlacedUnit, Yardstick

LABEL = ("A yardstick that every machine can reproduce, not a claim about any Zynq. Only paths "
         "between registers of one unit count.")


def yardstick(
    config: AcceleratorConfig, *, settings: Sequence[str], device_name: str | None, unit: str,
    plain_array: bool, console: Console,
) -> Yardstick:
    """Place and route the units of `config` with `settings`, or one of them, on an ECP5.

    Each is printed to `console` with its time as it is done.

    Raises
    ------
    ConfigError, DeviceError, UnitError, YosysError, NextpnrError
        The message says what can be done.
    """
    from pliant_sim.synthesis.yardstick import yardstick as function

    varied, part = chosen(config, settings, device_name)

    def finished(placed: PlacedUnit) -> None:
        console.print(f"{placed.path}: {_clock(placed)}, {placed.seconds:.0f} s", highlight=False)

    with console.status("") as status:
        return function(varied, part, unit, plain_array=plain_array, finished=finished,
                        progress=lambda name: status.update(f"placing and routing {name}"))


def yardstick_tables(result: Yardstick) -> Group:
    """Return the result as a table."""
    title = (f"{result.config} on ECP5 ({result.device}): {result.nextpnr}, {result.yosys}, "
             f"{result.array_kind}\n{LABEL}")
    table = Table(title="clock by unit")
    table.add_column("unit")
    for name in ("LUT4", "FF", "MULT18", "RAM 16K", "MHz", "ns", "routing"):
        table.add_column(name, justify="right")
    for name in ("from", "to"):
        table.add_column(name, overflow="fold")
    table.add_column("s", justify="right")
    for item in result.units:
        used, path = item.placement.used, item.placement.path
        table.add_row(
            item.path, *(str(used[key] or "") for key in ("lut", "ff", "multiplier", "block_ram")),
            _clock(item).removesuffix(" MHz"),
            *((f"{path.nanoseconds:.2f}", f"{path.routing:.2f}", path.start, path.end) if path
              else ("", "", "", "")), f"{item.seconds:.0f}")
    return Group(Text(title), table)


def _clock(item: PlacedUnit) -> str:
    placement = item.placement
    if placement.excess:
        return "too big: " + ", ".join(
            f"{name} {used} of {available}"
            for name, (used, available) in placement.excess.items())
    if placement.megahertz is None:
        return "no path between registers"
    return f"{placement.megahertz:.1f} MHz"
