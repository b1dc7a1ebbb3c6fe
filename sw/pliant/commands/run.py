"""`run`: a program on a board, or on the virtual one, by the driver."""

from __future__ import annotations

import enum
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.commands.errors import explain
from pliant.commands.simulate import InputError, read_array
from pliant.commands.summary import (
    OutputSummary,
    output_directory,
    output_text,
    summarize_outputs,
)
from pliant.driver.accelerator import Accelerator, Verify
from pliant.driver.manifest import FILE_NAME, Manifest, read_manifest
from pliant.driver.profile import Profile
from pliant.driver.result import RunResult, quantize
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.platform import CORE_INSTANCE
from pliant.spec.program import Program, TensorInfo

REMOTE_VARIABLE = "PYNQ_REMOTE_DEVICES"
"""Where PYNQ looks for the address of a remote board, when it is imported."""


class Target(enum.Enum):
    """What runs the program."""

    VIRTUAL = "virtual"
    """The simulated RTL in this process."""
    REMOTE = "remote"
    """A board, or a virtual one, over PYNQ.remote."""
    LOCAL = "local"
    """The board that this program runs on, by PYNQ."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run in figures.

    Attributes
    ----------
    device : Target
    images : int
    classes : list of int or None
        Index of the largest value for each image, where the program has one output of one pixel.
    outputs : list of OutputSummary
    cycles : list of int
        Of each image, by the core's own counter.
    profile : Profile or None
        Of the first image, if it was asked for.
    """

    network: str
    config: str
    device: Target
    images: int
    classes: list[int] | None
    outputs: list[OutputSummary]
    cycles: list[int]
    profile: Profile | None


def run(
    program: Program,
    images: NDArray[np.int8],
    target: Target,
    *,
    bitstream: Path | None = None,
    address: str | None = None,
    verify: bool = False,
    profile: bool = False,
    output: Path | None = None,
) -> RunSummary:
    """Run `program` on a batch of images.

    Parameters
    ----------
    program : Program
        With one input.
    images : int8 (images, channels, height, width)
        What it computes on.
    target : Target
        What runs it.
    bitstream : Path or None
        For boards: .bit file with its .hwh, and maybe its manifest (manifest.json), beside it.
    address : str or None
        Of a remote board; None for what PYNQ_REMOTE_DEVICES says.
    verify : bool
        Compare instructions and constants in memory with the program before accepting results.
    profile : bool
        Run the prefixes of the program as well.
    output : Path or None
        Directory for the outputs, one .npy file each.

    Raises
    ------
    InputError
        Something is missing for this target, or an output's name is no name of a file.
    DriverError
        Whatever the driver reports.
    """
    output_directory(output, program)
    with open_accelerator(program, target, bitstream=bitstream, address=address,
                          verify=verify) as accelerator:
        accelerator.load(program)
        result = accelerator.run(images)
        layers = accelerator.profile(images[0]) if profile else None
    return RunSummary(
        network=program.network, config=accelerator.config.name, device=target,
        images=len(images), classes=_classes(result),
        outputs=summarize_outputs(result.outputs, output), cycles=list(result.cycles),
        profile=layers)


@contextmanager
def open_accelerator(
    program: Program, target: Target, *, bitstream: Path | None, address: str | None, verify: bool
) -> Iterator[Accelerator]:
    """Give an accelerator that can run `program`, and close it afterwards."""
    when: Verify = "run" if verify else "load"
    with ExitStack() as stack:
        if target is Target.VIRTUAL:
            config = _preset_of(program)
            from pliant_sim.virtual_device import VirtualDevice

            device = VirtualDevice.of(config)
            stack.callback(device.close)
            yield stack.enter_context(Accelerator(device, config, verify=when))
            return
        if bitstream is None:
            raise InputError(f"device {target.value!r} needs a bitstream; give --bitstream "
                             "FILE.bit")
        if target is Target.REMOTE:
            _point_to(address)
        manifest = _manifest_of(bitstream)
        core = _core_of(bitstream)
        yield stack.enter_context(core.accelerator(manifest=manifest, verify=when))


def only_input(program: Program) -> TensorInfo:
    """Return the program's input; InputError when it has several."""
    if len(program.inputs) != 1:
        raise InputError(f"program {program.network!r} has {len(program.inputs)} inputs "
                         f"({', '.join(info.name for info in program.inputs)}); run it from "
                         "Python, with pliant.driver.accelerator.Accelerator")
    return program.inputs[0]


def read_images(info: TensorInfo, paths: Sequence[Path], *, mean: Sequence[float] = (),
                std: Sequence[float] = ()) -> NDArray[np.int8]:
    """Return the images in files as one int8 batch for an input.

    Parameters
    ----------
    info : TensorInfo
        The input.
    paths : sequence of Path
        .npy files with one image or several, int8, or real values that are quantized; or pictures,
        which are converted to grey or RGB and to the input's size, with pixels as real values of
        0 to 1.
    mean, std : sequence of float
        Subtracted from the pixels of pictures and divided by, for each channel; none if empty.

    Raises
    ------
    InputError
        A file holds nothing that the input takes.
    FileNotFoundError
        There is no such file.
    """
    _check_pixels(info, mean, std)
    if (mean or std) and all(path.suffix == ".npy" for path in paths):
        raise InputError("mean and std are for pictures; values of .npy files are taken as they "
                         "are")
    batches = []
    for path in paths:
        value = read_array(path) if path.suffix == ".npy" else _picture(info, path, mean, std)
        if np.issubdtype(value.dtype, np.floating):
            try:
                value = quantize(value, info)
            except ValueError as error:
                raise InputError(f"{path}: {error}") from None
        batch = value[np.newaxis] if value.ndim == 3 else value
        if batch.dtype != np.int8 or batch.shape[1:] != info.image_shape or not len(batch):
            raise InputError(f"{path}: found {value.dtype} {value.shape}, input {info.name!r} "
                             f"takes int8 or real {info.image_shape}, or that with one image "
                             "or more in front")
        batches.append(batch)
    return np.concatenate(batches)


def text(summary: RunSummary) -> str:
    """Return a run's figures for people."""
    cycles = f"{min(summary.cycles)} to {max(summary.cycles)}"
    if len(set(summary.cycles)) == 1:
        cycles = str(summary.cycles[0])
    lines = [f"{summary.network} on {summary.config} ({summary.device.value}): {summary.images} "
             f"image{'s' * (summary.images > 1)}, {cycles} cycles each"]
    if summary.classes is not None:
        lines.append("classes: " + " ".join(map(str, summary.classes)))
    lines += map(output_text, summary.outputs)
    if summary.profile is not None:
        lines.append(summary.profile.text())
    return "\n".join(lines)


def _preset_of(program: Program) -> AcceleratorConfig:
    config = preset(program.config_name)
    program.require(config)
    return config


def _classes(result: RunResult) -> list[int] | None:
    outputs = result.program.outputs
    if len(outputs) != 1 or outputs[0].shape[1:] != (1, 1):
        return None
    return [int(index) for index in result.classes()]


def _manifest_of(bitstream: Path) -> Manifest | None:
    path = bitstream.with_name(FILE_NAME)
    if not path.exists():
        return None
    manifest = read_manifest(path)
    recorded = manifest.check_bitstream()
    if recorded.name != bitstream.name:
        raise InputError(f"{path} describes {recorded.name}, not {bitstream.name}")
    return manifest


def _point_to(address: str | None) -> None:
    """Tell PYNQ, before it is imported, where the board is."""
    if address is not None:
        os.environ[REMOTE_VARIABLE] = address
    elif REMOTE_VARIABLE not in os.environ:
        raise InputError(f"device 'remote' needs the board's address: give --address, or set "
                         f"{REMOTE_VARIABLE}")


def _core_of(bitstream: Path) -> Any:
    """Load a bitstream by PYNQ; return what its driver is bound to."""
    for path in (bitstream, bitstream.with_suffix(".hwh")):
        path.open("rb").close()
    from pynq import Overlay

    import pliant.driver.pynq  # noqa: F401 - lets PYNQ bind the driver

    try:
        with warnings.catch_warnings():
            for said_otherwise in ("Interrupts are not yet implemented", "No devices found"):
                warnings.filterwarnings("ignore", said_otherwise)
            overlay = Overlay(str(bitstream))
            core = getattr(overlay, CORE_INSTANCE) if CORE_INSTANCE in overlay.ip_dict else None
    except Exception as error:  # PYNQ raises RuntimeError, ValueError, gRPC's errors and others
        raise InputError(f"PYNQ cannot load {bitstream}: {explain(error) or error}") from error
    if core is None:
        raise InputError(f"{bitstream.with_suffix('.hwh')}: has no {CORE_INSTANCE!r}; found "
                         f"{', '.join(overlay.ip_dict) or 'nothing'}")
    return core


def _check_pixels(info: TensorInfo, mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (0, info.image_shape[0]):
            raise InputError(f"{name} has {len(values)} values, input {info.name!r} has "
                             f"{info.image_shape[0]} channels")
    if not np.isfinite([*mean, *std]).all() or 0 in std:
        raise InputError(f"mean = {list(mean)} and std = {list(std)} must be numbers, and std not "
                         "0")


def _picture(
    info: TensorInfo, path: Path, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float64]:
    from PIL import Image, UnidentifiedImageError

    channels, height, width = info.image_shape
    modes = {1: "L", 3: "RGB"}
    if channels not in modes:
        raise InputError(f"input {info.name!r} has {channels} channels; pictures make 1 or 3, give "
                         "a .npy file")
    try:
        with Image.open(path) as picture:
            resized = picture.convert(modes[channels]).resize((width, height))
    except UnidentifiedImageError:
        raise InputError(f"{path}: neither a .npy file nor a picture") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise InputError(f"{path}: damaged picture ({error})") from None
    pixels = np.asarray(resized, np.float64).reshape(height, width, channels) / 255
    if mean:
        pixels = pixels - np.asarray(mean)
    if std:
        pixels = pixels / np.asarray(std)
    return pixels.transpose(2, 0, 1)
