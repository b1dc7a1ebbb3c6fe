"""Commands that run whole networks at every level and compare them."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.core import ParameterSource as Source

from pliant.cli.base import DIFFERENCE, Failure, conclude, config_option, json_option
from pliant.commands.values import plain
from pliant.spec.config import preset


@click.group(invoke_without_command=True)
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


@click.command()
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
