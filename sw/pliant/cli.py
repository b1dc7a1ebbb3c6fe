"""The command line `pliant`: each command is a thin layer over a function of its name."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource as Source

from pliant.commands.errors import explain
from pliant.commands.values import plain
from pliant.spec.config import PRESETS, AcceleratorConfig, preset
from pliant.spec.platform import PLATFORMS, platform

FAILURE = 2
"""Exit code for errors of input, configuration, program or hardware; click's for wrong usage."""

DIFFERENCE = 1
"""Exit code of a demo that found levels to differ."""


class Failure(click.ClickException):
    """An error that the user can act on: one line on stderr, no traceback."""

    exit_code = FAILURE

    def show(self, file: Any = None) -> None:
        """Print the message."""
        click.echo(f"pliant: error: {' '.join(self.format_message().split())}", err=True)


class PliantGroup(click.Group):
    """Turns expected errors into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            raise Failure(message) from error


class Progress(logging.Handler):
    """Shows what takes long on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(f"pliant: {record.getMessage()}", err=True)


def report(result: object, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result to stdout, as JSON or as text."""
    click.echo(json.dumps(plain(result), indent=2) if as_json else text())


def config_option(help_text: str, default: str | None = None) -> Callable[..., Any]:
    """Return the option --config."""
    names = ", ".join(PRESETS)
    return click.option("--config", "config_name", metavar="NAME", default=default,
                        show_default=default is not None, help=f"{help_text}: {names}.")


json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print the result as JSON, and nothing else, to stdout.")


@click.group(cls=PliantGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pliant")
def main() -> None:
    """Build, program and simulate the pliant accelerator for quantized networks."""
    log = logging.getLogger("pliant_sim")
    log.setLevel(logging.INFO)
    log.handlers = [Progress()]


@main.command()
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


@main.command()
@click.argument("network")
@config_option("Configuration", "pynq_z2")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Program file; build/NETWORK_NAME.pliant if not given.")
@click.option("--stages", type=click.Path(file_okay=False, path_type=Path),
              help="Directory for the graph after every pass, printed and drawn (Graphviz).")
@click.option("--examples", type=click.Path(dir_okay=False, path_type=Path),
              help="File (.npz) for images to run the network on, with labels where known.")
@click.option("--keep-tensors", is_flag=True,
              help="Write every layer's result to memory, to be read after a run.")
@json_option
def compile(
    network: str, config_name: str, output: Path | None, keep_tensors: bool,
    stages: Path | None, examples: Path | None, as_json: bool,
) -> None:
    """Compile NETWORK (digits, detector, resnet50, codenet_a, ...) to a program file."""
    from pliant.commands.compile import compile as function

    config = preset(config_name)
    path = output or Path("build") / f"{network}_{config.name}.pliant"
    result = function(network, config, path, keep_tensors=keep_tensors, stages=stages,
                      examples=examples)
    report(result, as_json, lambda: (
        f"{result.path}: {result.network} for {result.config}, {result.layers} layers, "
        f"{result.instructions} instructions, {result.macs} MACs, "
        f"{result.constant_bytes} bytes of constants"))


@main.command()
@click.argument("program", type=click.Path(path_type=Path))
@config_option("Require this configuration; that of the program if not given")
@json_option
def disasm(program: Path, config_name: str | None, as_json: bool) -> None:
    """Print the instructions of a PROGRAM file, layer by layer."""
    from pliant.commands.disasm import disasm as function
    from pliant.commands.disasm import listing
    from pliant.spec.program import load_program

    loaded = load_program(program, None if config_name is None else preset(config_name))
    lines = function(loaded)
    result = {"network": loaded.network, "config": loaded.config_name,
              "fingerprint": f"{loaded.fingerprint:016x}", "macs": loaded.macs,
              "instructions": lines}
    report(result, as_json, lambda: listing(loaded, lines))


@main.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--level", type=click.Choice(["instruction", "rtl"]), default="instruction",
              show_default=True, help="What executes the program.")
@config_option("Configuration; that of the program if not given")
@click.option("-i", "--input", "inputs", multiple=True, type=click.Path(path_type=Path),
              help="int8 .npy file (channels, height, width), or with images in front; one for "
                   "each input. Held-out images of the network if not given.")
@click.option("--images", type=int, help="Number of the network's own images; 1 if not given.")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Directory for the outputs, one .npy file each.")
@json_option
def simulate(
    program: Path, level: str, config_name: str | None, inputs: tuple[Path, ...],
    images: int | None, output: Path | None, as_json: bool,
) -> None:
    """Run a PROGRAM file on the instruction-level simulator or on the RTL."""
    if inputs and images is not None:
        raise click.UsageError("give either --input or --images")
    from pliant.commands.simulate import Level, check_inputs, network_inputs, read_inputs
    from pliant.commands.simulate import simulate as function
    from pliant.commands.summary import output_directory, summarize, text
    from pliant.spec.program import load_program

    loaded = load_program(program)
    config: AcceleratorConfig = preset(config_name or loaded.config_name)
    loaded.require(config)
    arrays = read_inputs(inputs) if inputs else network_inputs(
        loaded, 1 if images is None else images)
    check_inputs(loaded, arrays)
    output_directory(output, loaded)
    result = function(loaded, arrays, config, level=Level(level))
    summary = summarize(loaded, config, result, output)
    report(summary, as_json, lambda: text(summary))


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[float]:
    """Return comma-separated numbers."""
    try:
        return [float(item) for item in value.split(",") if item]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers: 0.485,0.456,0.406") from None


@main.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...",
                type=click.Path(path_type=Path))
@click.option("--device", type=click.Choice(["virtual", "remote", "local"]), default="virtual",
              show_default=True,
              help="The simulated RTL, a board over PYNQ.remote, or the board that this runs on.")
@click.option("--bitstream", type=click.Path(path_type=Path), metavar="FILE.bit",
              help="For boards: the bitstream, with its .hwh and maybe its manifest beside it.")
@click.option("--address", metavar="HOST",
              help="Of a remote board; what PYNQ_REMOTE_DEVICES says if not given.")
@click.option("--mean", default="", callback=numbers, metavar="NUMBERS",
              help="Subtracted from pixels of 0 to 1, for each channel: 0.485,0.456,0.406.")
@click.option("--std", default="", callback=numbers, metavar="NUMBERS",
              help="Divides the pixels of each channel afterwards.")
@click.option("--verify", is_flag=True,
              help="Compare the program in memory with the file before results are accepted.")
@click.option("--profile", is_flag=True, help="Show what each layer adds to a run.")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Directory for the outputs, one .npy file each.")
@json_option
def run(
    program: Path, images: tuple[Path, ...], device: str, bitstream: Path | None,
    address: str | None, mean: list[float], std: list[float], verify: bool, profile: bool,
    output: Path | None, as_json: bool,
) -> None:
    """Run a PROGRAM file on images (.npy files or pictures) with the driver."""
    from pliant.commands.run import Target, only_input, read_images, text
    from pliant.commands.run import run as function
    from pliant.spec.program import load_program

    target = Target(device)
    if bitstream is not None and target is Target.VIRTUAL:
        raise click.UsageError("--bitstream needs --device remote or local")
    if address is not None and target is not Target.REMOTE:
        raise click.UsageError("--address needs --device remote")
    loaded = load_program(program)
    batch = read_images(only_input(loaded), images, mean=mean, std=std)
    result = function(loaded, batch, target, bitstream=bitstream, address=address,
                      verify=verify, profile=profile, output=output)
    report(result, as_json, lambda: text(result))


def conclude(result: Any, as_json: bool, tables: Callable[[], Any]) -> None:
    """Print what a demo found; exit with DIFFERENCE unless all integers are equal."""
    from rich.console import Console

    if as_json:
        click.echo(json.dumps(plain(result), indent=2))
    else:
        Console().print(tables())
    if not result.equal:
        raise click.exceptions.Exit(DIFFERENCE)


@main.group(invoke_without_command=True)
@config_option("Configuration", "pynq_z2")
@click.option("--images", type=click.IntRange(100, 360), default=100, show_default=True,
              help="Held-out images on the RTL; the other levels run all 360.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/demo"),
              show_default=True, help="Directory for demo.json and the trace.")
@json_option
@click.pass_context
def demo(
    context: click.Context, config_name: str, images: int, output: Path, as_json: bool
) -> None:
    """Run the digits network at every level and compare all layers with ==."""
    if context.invoked_subcommand is not None:
        given = [parameter.opts[0] for parameter in context.command.params
                 if context.get_parameter_source(parameter.name or "") is not Source.DEFAULT]
        if given:
            raise click.UsageError(f"give {given[0]} behind {context.invoked_subcommand!r}")
        return
    from rich.console import Console

    from pliant.commands.demo import demo as function
    from pliant.commands.demo import tables

    config = preset(config_name)
    result = function(config, output, images=images, console=Console(stderr=True))
    conclude(result, as_json, lambda: tables(result, output))


@demo.command()
@config_option("Configuration", "ultra96")
@click.option("--images", type=click.IntRange(1, 12), default=4, show_default=True,
              help="Held-out scenes that every level runs.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/demo"),
              show_default=True, help="Directory for detect.json and the picture.")
@json_option
def detect(config_name: str, images: int, output: Path, as_json: bool) -> None:
    """Run the trained CoDeNet on scenes of digits at every level; draw the boxes in a PNG."""
    from rich.console import Console

    from pliant.commands.detect import detect as function
    from pliant.commands.detect import tables

    config = preset(config_name)
    result = function(config, output, images=images, console=Console(stderr=True))
    conclude(result, as_json, lambda: tables(result, output))


@main.command()
@click.argument("network", required=False)
@click.option("--all", "every", is_flag=True, help="Run every ImageNet network.")
@config_option("Configuration", "ultra96")
@json_option
def bench(network: str | None, every: bool, config_name: str, as_json: bool) -> None:
    """Run NETWORK (vgg16, resnet18, resnet50, ...) whole on the RTL: checked, cycles by layer."""
    if every == (network is not None):
        raise click.UsageError("give either a NETWORK or --all")
    from rich.console import Console

    from pliant.commands.bench import bench as function
    from pliant.commands.bench import bench_all, layer_table, network_table, wide_console

    config, console = preset(config_name), Console(stderr=True)
    errors: dict[str, str] = {}
    if network is not None:
        result = function(network, config, console=console)
        results, shown, table = [result], plain(result), layer_table(result)
    else:
        results, errors = bench_all(config, console=console)
        shown, table = plain({"results": results, "errors": errors}), network_table(results)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        wide_console().print(table)
    if errors:
        raise Failure("; ".join(f"{name}: {message}" for name, message in errors.items()))
    if not all(item.bit_exact for item in results):
        raise click.exceptions.Exit(DIFFERENCE)


@main.command()
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


@main.group()
def board() -> None:
    """Work with virtual boards: the simulated RTL in place of a board with PYNQ."""


def platform_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --platform."""
    return click.option(
        "--platform", "platform_name", metavar="NAME",
        help="Board that the configuration is on; the first that is built with it if not given.",
    )(function)


@board.command()
@config_option("Configuration", "ultra96")
@platform_option
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("build/board"), show_default=True, help="Directory for the files.")
@json_option
def overlay(
    config_name: str, platform_name: str | None, output: Path, as_json: bool
) -> None:
    """Write pliant.bit, a stand-in that virtual boards load, and pliant.hwh for PYNQ."""
    from pliant.commands.board import overlay as function
    from pliant.commands.board import platform_for

    config = preset(config_name)
    where = platform_for(config, platform_name)
    result = function(config, where, output)
    report(result, as_json, lambda: (
        f"{result.bitstream}, {result.handoff}: virtual board {result.platform} with "
        f"configuration {result.config} ({result.fingerprint})"))


@board.command()
@config_option("Configuration", "ultra96")
@platform_option
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen at. Anyone who reaches it may use the board.")
@click.option("--port", type=click.IntRange(0, 65535), default=7967, show_default=True,
              help="Port to listen at; 0 for any. PYNQ's client knows the default alone.")
@click.option("--web", is_flag=True,
              help="Serve a page, too, on which digits are drawn that the core classifies.")
@click.option("--web-port", type=click.IntRange(0, 65535),
              help="Port of that page; 0 for any, 8080 if not given.")
@json_option
def serve(
    config_name: str, platform_name: str | None, host: str, port: int, web: bool,
    web_port: int | None, as_json: bool,
) -> None:
    """Serve a virtual board to PYNQ.remote until interrupted (Ctrl-C or SIGTERM)."""
    if web_port is not None and not web:
        raise click.UsageError("--web-port needs --web")
    if web and web_port is None:
        web_port = 8080
    from pliant.commands.board import Left, Served, platform_for
    from pliant.commands.board import serve as function

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr beside exceptions
    from pliant_sim.board.server import PORT

    config = preset(config_name)
    where = platform_for(config, platform_name)

    def announce(served: Served) -> None:
        report(served, as_json, lambda: (
            f"virtual board {served.platform} ({served.family}) with configuration "
            f"{served.config} ({served.fingerprint}) at {served.host}:{served.port}; for its "
            "clients: " + (f"PYNQ_REMOTE_DEVICES={served.host}" if served.port == PORT else
                           f"RemoteDevice(0, {served.host!r}, {served.port})")
            + (f"\ndraw digits at {served.page}" if served.page else "")))

    def text(left: Left) -> str:
        return f"ended; clients left {left.buffers} buffers of {left.buffer_bytes} bytes"

    left = function(config, where, host=host, port=port,
                    web_port=web_port, announce=announce)
    report(left, as_json, lambda: text(left))
