"""`synth --nextpnr`: the clock of a unit on its own device, where nextpnr-xilinx is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pliant.commands.synth import chosen
from pliant.spec.config import AcceleratorConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pliant_sim.synthesis.nextpnr_xilinx import RoutedUnit

LABEL = ("An experiment: this hook has not been tried with the real program, and the program's "
         "delays are no sign-off.")


def route(
    config: AcceleratorConfig, *, settings: Sequence[str], device_name: str | None, unit: str,
    plain_array: bool, chipdb: Path, console: Console,
) -> RoutedUnit:
    """Place and route a unit of `config` with `settings`, or the whole core, on its device.

    Raises
    ------
    ConfigError, DeviceError, UnitError, YosysError, NextpnrError
        The message says what can be done.
    """
    from pliant_sim.synthesis.nextpnr_xilinx import route as function

    varied, part = chosen(config, settings, device_name)
    with console.status(f"placing and routing {unit or 'the core'} on {part.name}"):
        return function(varied, part, unit, chipdb, plain_array=plain_array)


def route_tables(result: RoutedUnit) -> Group:
    """Return the result as a table."""
    table = Table(title="clocks")
    table.add_column("clock")
    for name in ("MHz", "asked for"):
        table.add_column(name, justify="right")
    for clock in result.clocks:
        table.add_row(clock.name, f"{clock.megahertz:.1f}", f"{clock.target:.1f}")
    return Group(Text(f"{result.config}, {result.unit or 'core'} on {result.device}: "
                      f"{result.nextpnr}, {result.yosys}, {result.seconds:.0f} s\n{LABEL}"), table)
