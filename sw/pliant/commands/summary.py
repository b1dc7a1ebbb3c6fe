"""What a simulation shows: outputs by name and digest, cycles and the use of the array."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pliant.commands.simulate import InputError, Simulation
from pliant.spec.config import AcceleratorConfig
from pliant.spec.program import Program


@dataclass(frozen=True, kw_only=True)
class OutputSummary:
    """An output of all images; `sha256` of its int8 bytes, images slowest, columns fastest."""

    name: str
    shape: tuple[int, ...]
    sha256: str
    path: Path | None


@dataclass(frozen=True, kw_only=True)
class SimulationSummary:
    """A simulation in figures; those that only the RTL has are None on the instruction level.

    Attributes
    ----------
    cycles_per_image : float or None
    array_use : float or None
        Useful multiply-accumulates / (rows * cols * cycles), 0 to 1.
    estimated_images_per_second : float or None
        At the clock that the configuration aims at: an estimate, not a measurement.
    kilocycles_per_cpu_second : float or None
        Speed of the simulation.
    counters : dict of int
        Performance counters of all images together.
    """

    network: str
    config: str
    level: str
    images: int
    outputs: list[OutputSummary]
    cycles_per_image: float | None
    array_use: float | None
    estimated_images_per_second: float | None
    kilocycles_per_cpu_second: float | None
    counters: dict[str, int]


def array_use(macs: int, cycles: float, config: AcceleratorConfig) -> float:
    """Return useful multiply-accumulates over those of a full array in `cycles`."""
    return macs / (config.peak_macs_per_cycle * cycles)


def output_directory(directory: Path | None, program: Program) -> None:
    """Make a directory for the outputs of `program`, before it runs.

    Raises
    ------
    InputError
        An output's name is no name of a file.
    """
    if directory is None:
        return
    for info in program.outputs:
        if info.name in ("", ".", "..") or set(info.name) & set("/\\\0"):
            raise InputError(f"output {info.name!r} of {program.network!r} is no file name; run "
                             "the program from Python, or call the layer otherwise")
    directory.mkdir(parents=True, exist_ok=True)


def summarize_outputs(
    outputs: Mapping[str, NDArray[np.int8]], directory: Path | None
) -> list[OutputSummary]:
    """Return the figures of outputs, int8 with images in front.

    With a directory, one that :func:`output_directory` has made, each is written there as
    ``<name>.npy``.
    """
    found = []
    for name, value in outputs.items():
        path = None
        if directory is not None:
            path = directory / f"{name}.npy"
            np.save(path, value)
        found.append(OutputSummary(name=name, shape=value.shape, path=path,
                                   sha256=hashlib.sha256(value.tobytes()).hexdigest()))
    return found


def output_text(output: OutputSummary) -> str:
    """Return an output as a line for people."""
    shape = "x".join(map(str, output.shape))
    place = f", {output.path}" if output.path is not None else ""
    return f"  output {output.name}: {shape} int8, SHA-256 {output.sha256[:16]}{place}"


def summarize(
    program: Program, config: AcceleratorConfig, result: Simulation, directory: Path | None
) -> SimulationSummary:
    """Return the figures of a simulation; outputs are written to `directory`, if there is one."""
    outputs = summarize_outputs(result.outputs, directory)
    cycles = sum(result.cycles)
    per_image = cycles / result.images if cycles else None
    return SimulationSummary(
        network=program.network, config=config.name, level=result.level.value,
        images=result.images, outputs=outputs, cycles_per_image=per_image,
        array_use=None if per_image is None else array_use(program.macs, per_image, config),
        estimated_images_per_second=(
            None if per_image is None else config.board.clock_mhz * 1e6 / per_image),
        kilocycles_per_cpu_second=(
            None if not result.cpu_seconds else cycles / result.cpu_seconds / 1e3),
        counters=result.counters,
    )


def text(summary: SimulationSummary) -> str:
    """Return a summary as lines for people."""
    lines = [f"{summary.network} on {summary.config}, {summary.level} level, "
             f"{summary.images} images"]
    lines += map(output_text, summary.outputs)
    if summary.cycles_per_image is not None:
        assert summary.array_use is not None
        lines.append(f"  {summary.cycles_per_image:.0f} cycles per image, "
                     f"array {summary.array_use:.1%} used, about "
                     f"{summary.estimated_images_per_second:.0f} images/s at the configuration's "
                     "clock (estimate)")
    if summary.kilocycles_per_cpu_second is not None:
        lines.append(f"  simulated at {summary.kilocycles_per_cpu_second:.0f} kilocycles per "
                     "CPU-second")
    if summary.counters:
        lines.append("  counters, in cycles over all images:")
        lines += [f"    {name:22} {value:>12}" for name, value in summary.counters.items()]
    return "\n".join(lines)
