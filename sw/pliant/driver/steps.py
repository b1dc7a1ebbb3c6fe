"""The steps of a run: one image, or a batch with the next image copied while one is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pliant.driver.bounds import TimeLimit
from pliant.driver.core import Core
from pliant.driver.device import Waits
from pliant.driver.faults import LostInterruptError, RunTimeoutError
from pliant.driver.residence import Residence
from pliant.spec.program import Segment
from pliant.spec.registers import Interrupt, Status

_FAULT = int(Interrupt.FAULT)
_INPUT, _OUTPUT = Segment.INPUT, Segment.OUTPUT
_INPUT_NAME, _OUTPUT_NAME = f"segment_{int(_INPUT)}", f"segment_{int(_OUTPUT)}"
_FALSE_ALARMS = 16
"""Times that a wait may end without the core having stopped."""


def run_batch(
    core: Core, residence: Residence, inputs: Sequence[NDArray[np.int8]], limit: TimeLimit
) -> Waits[tuple[list[NDArray[np.int8]], list[int]]]:
    """Run a batch; return its outputs and the cycles of each image.

    Where the memory has several slots, the outputs of the image before are read and the inputs of
    the next are written while the core computes.

    Parameters
    ----------
    core : Core
        At rest, set up for the program.
    residence : Residence
        Memory of the program.
    inputs : sequence of int8 (images, channels, height, width)
        One array for each input of the program.
    limit : TimeLimit
        Of each image.
    """
    slots, count = len(residence.images), len(inputs[0])
    outputs = [np.empty((count, *info.image_shape), np.int8) for info in residence.program.outputs]
    cycles = []

    def write(index: int) -> None:
        residence.write_inputs(index % slots, [batch[index] for batch in inputs])

    def read(index: int) -> None:
        for output, value in zip(outputs, residence.read_outputs(index % slots), strict=True):
            output[index] = value

    for index in range(count):
        if index == 0 or slots == 1:
            write(index)

        def copy(index: int = index) -> None:
            if index:
                read(index - 1)
            if index + 1 < count:
                write(index + 1)

        select(core, residence, index % slots)
        cycles.append((yield from run_once(core, residence, limit, copy if slots > 1 else None)))
        if slots == 1 or index + 1 == count:
            read(index)
    return outputs, cycles


def select(core: Core, residence: Residence, slot: int) -> None:
    """Let the core read the inputs of a slot and write its outputs."""
    bases = residence.images[slot].segment_bases
    core.set(_INPUT_NAME, bases[_INPUT])
    core.set(_OUTPUT_NAME, bases[_OUTPUT])


def run_once(
    core: Core, residence: Residence, limit: TimeLimit, meanwhile: Callable[[], None] | None = None
) -> Waits[int]:
    """Start the core, do something else, wait until it is done; return its cycles.

    Raises
    ------
    HardwareFault, LostInterruptError, RunTimeoutError
        See :meth:`pliant.driver.accelerator.Accelerator.run`.
    """
    program = residence.program
    core.start()
    if meanwhile is not None:
        meanwhile()
    events = cycles = 0
    for _ in range(_FALSE_ALARMS):
        came = yield limit.seconds
        if not came:
            break
        events, cycles = core.completion()
        if events:
            break
    if events & _FAULT:
        raise core.fault(program)
    if not events:
        status = core.status()
        if status & (Status.DONE | Status.FAULT):
            raise LostInterruptError(program.network, status, limit.seconds)
        raise RunTimeoutError(program.network, limit.seconds, core.activity())
    return cycles
