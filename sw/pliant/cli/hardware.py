"""Commands that make hardware of a configuration, and measure it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from pliant.cli.base import config_option, json_option, report
from pliant.commands.values import plain
from pliant.spec.config import preset
from pliant.spec.platform import PLATFORMS, platform


@click.command()
@config_option("Configuration; pynq_z2 if neither this nor --board is given")
@click.option("--board", "board_name", metavar="NAME",
              help="Write all that the bitstream of a board is made of, for Vivado: "
                   f"{', '.join(PLATFORMS)}.")
@click.option("--record", is_flag=True,
              help="With --board: add the bitstream that Vivado made to the manifest.")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Verilog file, build/pliant_NAME.v if not given; with --board a directory, "
                   "build/NAME if not given.")
@click.option("--array", type=click.Choice(["packed", "plain"]), default="packed",
              show_default=True,
              help="Matrix array: of DSP slices of the configuration's device, or for simulators.")
@json_option
def build(
    config_name: str | None, board_name: str | None, record: bool, output: Path | None,
    array: Literal["packed", "plain"], as_json: bool,
) -> None:
    """Write the Verilog of a configuration, or the sources of a board's bitstream."""
    if board_name is not None:
        if config_name is not None or array != "packed":
            raise click.UsageError("--board has its own configuration, with the packed array")
        build_for_board(board_name, record, output, as_json)
        return
    if record:
        raise click.UsageError("--record needs --board")
    from pliant.commands.build import build as function

    config = preset(config_name or "pynq_z2")
    result = function(config, output or Path("build") / f"pliant_{config.name}.v", array)
    report(result, as_json, lambda: (
        f"{result.path}: {result.lines} lines of Verilog for {result.config}, "
        f"matrix array {result.array}"))


def build_for_board(name: str, recording: bool, output: Path | None, as_json: bool) -> None:
    """Write or record the build of a board, and say so."""
    from pliant.commands.build import build_board, record

    board = platform(name)
    directory = output or Path("build") / board.name
    if recording:
        manifest = record(board, directory)
        report(manifest.document(), as_json, lambda: f"{manifest.path}: bitstream recorded")
        return
    result = build_board(board, directory)
    report(result, as_json, lambda: (
        f"{result.directory}: {len(result.files)} files for {result.board}, configuration "
        f"{result.config}, matrix array {result.array}; next:\n"
        f"vivado -mode batch -source {result.directory / 'build.tcl'}"))


@click.command()
@config_option("Configuration", "ultra96")
@click.option("--unit", default="", help="One unit alone: post, matrix.array, ...")
@click.option("--device", "device_name", metavar="NAME",
              help="Device: xc7z020, zu3eg, k26, zu7ev; that of the preset if not given.")
@click.option("--set", "settings", metavar="FIELD=NUMBER", multiple=True,
              help="Change a field of the configuration, or dsp_slices of its board.")
@click.option("--grow", "grown", metavar="FIELD=NUMBER,NUMBER,...", multiple=True,
              help="Synthesise a variant for each of these values of a field: how the area grows. "
                   "A value may bring others along: cols=16:axi_data_bytes=16,32.")
@click.option("--plain-array", is_flag=True,
              help="The matrix array of the simulators instead of the one packed into DSPs.")
@click.option("--ecp5", is_flag=True,
              help="Place and route each unit on an ECP5 instead: a portable yardstick of clocks.")
@click.option("--nextpnr", "chipdb", metavar="CHIPDB", type=click.Path(path_type=Path),
              help="Place and route the unit on its device instead, with the nextpnr-xilinx on "
                   "the path and this chip database. An experiment.")
@json_option
def synth(
    config_name: str, unit: str, device_name: str | None, settings: tuple[str, ...],
    grown: tuple[str, ...], plain_array: bool, ecp5: bool, chipdb: Path | None, as_json: bool,
) -> None:
    """Synthesise a configuration with Yosys: area by unit, and the longest paths."""
    if ecp5 + (chipdb is not None) + bool(grown) > 1:
        raise click.UsageError("give one of --ecp5, --nextpnr and --grow")
    from rich.console import Console

    from pliant.commands.bench import wide_console
    from pliant.commands.growth import growth, growth_tables
    from pliant.commands.route import route, route_tables
    from pliant.commands.synth import synth as area
    from pliant.commands.synth import tables
    from pliant.commands.yardstick import yardstick, yardstick_tables

    function: Callable[..., Any] = yardstick if ecp5 else area
    show: Callable[..., Any] = yardstick_tables if ecp5 else tables
    if chipdb is not None:
        function, show = functools.partial(route, chipdb=chipdb), route_tables
    if grown:
        function, show = functools.partial(growth, grown=grown), growth_tables
    result = function(preset(config_name), settings=settings, device_name=device_name, unit=unit,
                      plain_array=plain_array, console=Console(stderr=True))
    if as_json:
        click.echo(json.dumps(plain(result), indent=2))
    else:
        wide_console().print(show(result))
