"""Commands that make program files and run them."""

from __future__ import annotations

from pathlib import Path

import click

from pliant.cli.base import config_option, json_option, report
from pliant.spec.config import AcceleratorConfig, preset


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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
