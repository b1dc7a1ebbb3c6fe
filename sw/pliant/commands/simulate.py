"""`simulate`: a program on the instruction-level simulator or on the RTL."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.commands.networks import NETWORKS, network
from pliant.spec.config import AcceleratorConfig
from pliant.spec.program import Program


class InputError(ValueError):
    """Input data that a program cannot take; the message says what it takes."""


class Level(enum.Enum):
    """What executes the program."""

    INSTRUCTION = "instruction"
    RTL = "rtl"


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What a program computed.

    Attributes
    ----------
    level : Level
    images : int
    outputs : dict of int8 (images, channels, height, width)
        By the names of the program's outputs.
    cycles : list of int
        Cycles of each image; empty on the instruction level, which knows no time.
    counters : dict of int
        Performance counters of all images together; empty on the instruction level.
    cpu_seconds : float or None
        Processor time that the simulated core took; None on the instruction level.
    """

    level: Level
    images: int
    outputs: dict[str, NDArray[np.int8]]
    cycles: list[int]
    counters: dict[str, int]
    cpu_seconds: float | None


def simulate(
    program: Program,
    inputs: Sequence[NDArray[np.int8]],
    config: AcceleratorConfig,
    *,
    level: Level = Level.INSTRUCTION,
) -> Simulation:
    """Run `program` on a batch of images, one after the other on the RTL.

    Parameters
    ----------
    program : Program
        Must be made for `config`.
    inputs : sequence of int8 (images, channels, height, width)
        One array for each input of the program.
    config : AcceleratorConfig
        What executes it.
    level : Level
        Instruction-level simulator or RTL.

    Raises
    ------
    InputError
        Inputs have the wrong number, shape or type.
    ProgramError
        The program is made for another configuration.
    HardwareFault
        The RTL stopped with a fault.
    """
    images = check_inputs(program, inputs)
    names = [tensor.name for tensor in program.outputs]
    if level is Level.INSTRUCTION:
        from pliant_sim.simulator import InstructionSimulator

        result = InstructionSimulator(config).run(program, inputs)
        return Simulation(level=level, images=images, counters={}, cycles=[], cpu_seconds=None,
                          outputs=dict(zip(names, result.outputs, strict=True)))

    from pliant_sim.rtl import RtlMachine

    machine = RtlMachine(config)
    runs = [machine.run(program, [tensor[index] for tensor in inputs]) for index in range(images)]
    return Simulation(
        level=level, images=images,
        outputs={name: np.stack([run.outputs[index] for run in runs])
                 for index, name in enumerate(names)},
        cycles=[run.cycles for run in runs],
        counters={name: sum(run.counters[name] for run in runs) for name in runs[0].counters},
        cpu_seconds=sum(run.cpu_seconds for run in runs),
    )


def check_inputs(program: Program, inputs: Sequence[NDArray[np.int8]]) -> int:
    """Return the number of images in `inputs`; InputError when `program` cannot take them."""
    if len(inputs) != len(program.inputs):
        wanted = ", ".join(repr(tensor.name) for tensor in program.inputs)
        raise InputError(f"program {program.network!r} has {len(program.inputs)} inputs "
                         f"({wanted}); {len(inputs)} given")
    for info, value in zip(program.inputs, inputs, strict=True):
        if value.dtype != np.int8 or value.ndim != 4 or value.shape[1:] != info.image_shape:
            raise InputError(f"input {info.name!r} of {program.network!r} must be int8 (images, "
                             f"{', '.join(map(str, info.image_shape))}), not {value.dtype} "
                             f"{value.shape}")
    counts = {len(value) for value in inputs}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"inputs hold {sorted(counts)} images; all must hold the same number, "
                         "one or more")
    return counts.pop()


def read_inputs(paths: Sequence[Path]) -> list[NDArray[np.int8]]:
    """Return the arrays in .npy files; one image (channels, height, width) becomes a batch.

    Raises
    ------
    InputError
        A file holds no array.
    FileNotFoundError
        There is no such file.
    """
    arrays = [read_array(path) for path in paths]
    return [array[np.newaxis] if array.ndim == 3 else array for array in arrays]


def read_array(path: Path) -> NDArray[Any]:
    """Return the array in a .npy file; raises what :func:`read_inputs` does."""
    try:
        array = np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy, zipfile and tokenize raise many kinds on damaged files
        raise InputError(f"{path}: not a .npy file ({error})") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: holds several arrays; save one with numpy.save")
    return array


def network_inputs(program: Program, images: int) -> list[NDArray[np.int8]]:
    """Return the first `images` held-out images of the network that `program` computes.

    Raises
    ------
    InputError
        The network has no images of its own, or not that many.
    """
    if program.network not in NETWORKS:
        raise InputError(f"network {program.network!r} has no images of its own "
                         f"({', '.join(NETWORKS)} have); give --input FILE.npy")
    held_out, _ = network(program.network).images()
    if not 1 <= images <= len(held_out):
        raise InputError(f"{images} images wanted; network {program.network!r} has 1 to "
                         f"{len(held_out)}")
    return [held_out[:images]]
