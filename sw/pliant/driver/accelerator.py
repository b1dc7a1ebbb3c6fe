"""Runs programs on a core: one image or batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pliant.driver.bounds import TimeLimit
from pliant.driver.device import Device, Waits
from pliant.driver.faults import ProgramMismatchError, ResetTimeoutError, add_note
from pliant.driver.image import MemoryImage
from pliant.driver.inputs import batches
from pliant.driver.profile import Profile, measure
from pliant.driver.result import RunResult, quantize
from pliant.driver.session import Session
from pliant.driver.steps import run_batch, run_once, select
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import End
from pliant.spec.program import Program, ProgramError, load_program, parse_program

Verify = Literal["load", "run"]


class Accelerator:
    """One core with one program; `with` frees its memory at the end.

    Whatever goes wrong during a run, the core is reset and the memory of instructions and
    constants is checked, and written again if need be, before the exception leaves: the next run
    is exact. No wait is without a limit. Another driver may use the core between two runs, not
    during one.

    Parameters
    ----------
    device : Device
    config : AcceleratorConfig
        What the core is built from.
    limit_cycles : int or None
        Longest run of one image; None for :func:`pliant.driver.bounds.cycle_bound` of the program.
        An attribute, too, for later runs. The hardware's watchdog is set to it.
    verify : "load" or "run"
        When instructions and constants in memory are compared with the program: after loading and
        after failures, or after every :meth:`run` as well, before its results are returned.
    slots : 1 or 2
        Images in memory. With 2, the next one of a batch is copied while one is computed.
    recover : bool
        False leaves core and memory as they are after a failure, to look at them; :meth:`reset`
        then comes before the next run and mends both.
    watchdog : bool
        False leaves the hardware's watchdog as it is.

    Raises
    ------
    HardwareMismatchError
        The core is not of this configuration or release.
    ResetTimeoutError
        The core does not come to rest.
    """

    def __init__(
        self, device: Device, config: AcceleratorConfig, *, limit_cycles: int | None = None,
        verify: Verify = "load", slots: int = 2, recover: bool = True, watchdog: bool = True,
    ) -> None:
        if verify not in ("load", "run"):
            raise ValueError(f"verify = {verify!r} must be 'load' or 'run'")
        if slots not in (1, 2):
            raise ValueError(f"slots = {slots!r} must be 1 or 2")
        if limit_cycles is not None:
            TimeLimit.of(limit_cycles, device, watchdog=watchdog)  # raises if it is none
        self.device = device
        self.config = config
        self.limit_cycles = limit_cycles
        self.verify_when = verify
        self._slots = slots
        self._watchdog = watchdog
        self._session = Session(device, config, recover=recover)
        self.core = self._session.core

    def __enter__(self) -> Accelerator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except ResetTimeoutError as stuck:
            if value is None:
                raise
            add_note(value, str(stuck))

    def close(self) -> None:
        """Stop the core and give all memory back; the next :meth:`load` takes memory again.

        The memory is given back even when the core cannot be stopped (ResetTimeoutError); its DMA
        window is empty then. RuntimeError while a run is awaited.
        """
        self._session.close()

    @property
    def program(self) -> Program | None:
        """The program in memory."""
        return self._session.program

    @property
    def image(self) -> MemoryImage:
        """Memory of the program; RuntimeError when none is loaded."""
        return self._session.residence.images[0]

    def load(self, program: Program | bytes | str | os.PathLike[str]) -> Program:
        """Place a program in the device's memory; does nothing when it is there already.

        Parameters
        ----------
        program : Program, bytes or path
            A program, the contents of a program file, or its path. The program that was there
            before gives its memory back first.

        Raises
        ------
        ProgramError
            The file is damaged.
        ProgramMismatchError
            The program is compiled for another configuration.
        DeviceMemoryError
            There is not enough memory; no program is loaded then.
        MemoryCorruptedError
            The memory does not hold what was written to it.
        """
        if isinstance(program, bytes):
            program = parse_program(program)
        elif not isinstance(program, Program):
            program = load_program(program)
        if self.program is program or self.program == program:
            return program
        try:
            program.require(self.config)
        except ProgramError as error:
            raise ProgramMismatchError(
                f"{error}, or load the bitstream of {program.config_name!r}") from None
        self._session.place(program, self._slots)
        return program

    def run(self, *inputs: NDArray[np.int8]) -> RunResult:
        """Run the program on one image or a batch.

        Parameters
        ----------
        *inputs : int8 (images, channels, height, width) or (channels, height, width)
            One array for each input of the program. :meth:`quantize` makes them from real values.

        Raises
        ------
        ValueError
            Inputs have the wrong number, shape or type; the core is not touched.
        HardwareFault
            The core stopped with a fault.
        LostInterruptError, RunTimeoutError
            It did not report that it has stopped, or did not stop.
        MemoryCorruptedError
            Instructions or constants changed in memory.
        ResetTimeoutError
            The core could not be stopped after an earlier failure.
        """
        images = batches(self._session.residence.program, inputs)
        with self._running() as limit:
            found = self.device.run(self._steps(images, limit))
        return self._result(inputs, *found)

    async def run_async(self, *inputs: NDArray[np.int8]) -> RunResult:
        """Do what :meth:`run` does and let other coroutines run meanwhile.

        One run at a time. A run that is cancelled resets the core.
        """
        images = batches(self._session.residence.program, inputs)
        with self._running() as limit:
            steps = self._steps(images, limit)
            try:
                timeout = next(steps)
                while True:
                    timeout = steps.send(await self.device.wait_async(timeout))
            except StopIteration as end:
                found = end.value
        return self._result(inputs, *found)

    def profile(self, *inputs: NDArray[np.int8]) -> Profile:
        """Return what each layer adds to a run; :mod:`pliant.driver.profile` says what that means.

        Runs as many programs as there are layers, each a layer longer, on the first image given
        (zeros if none), and raises what :meth:`run` does.
        """
        program = self._session.residence.program
        given = inputs or [np.zeros(info.image_shape, np.int8) for info in program.inputs]
        return measure(program, self.config, lambda index: self.run_prefix(index, *given))

    def run_prefix(self, index: int, *inputs: NDArray[np.int8]) -> dict[str, int]:
        """Run one image through the instructions before `index`; return all counters.

        The instruction at `index` is replaced by End meanwhile. Outputs are not read.
        """
        residence = self._session.residence
        tensors = [batch[0] for batch in batches(residence.program, inputs)]

        def steps(limit: TimeLimit) -> Waits[dict[str, int]]:
            residence.write_inputs(0, tensors)
            select(self.core, residence, 0)
            yield from run_once(self.core, residence, limit)
            return self.core.counters()

        with self._running() as limit:
            residence.images[0].replace_instruction(index, End().encode())
            residence.flush_program()
            self.core.set("program_length", index + 1)
            counters = self.device.run(steps(limit))
            self._session.restore()
        return counters

    def quantize(self, *real: NDArray[np.floating[Any]]) -> list[NDArray[np.int8]]:
        """Return real-valued inputs of the loaded program as int8, see :func:`quantize`."""
        program = self._session.residence.program
        if len(real) != len(program.inputs):
            raise ValueError(f"program {program.network!r} has {len(program.inputs)} inputs, "
                             f"found {len(real)}")
        return [quantize(value, info) for value, info in zip(real, program.inputs, strict=True)]

    def reset(self) -> None:
        """Soft reset of the core; the program in memory is checked and written again if need be.

        Raises
        ------
        ResetTimeoutError
            The reset does not complete.
        MemoryCorruptedError
            The memory does not hold what is written to it.
        """
        self._session.reset()

    def verify(self) -> None:
        """Raise MemoryCorruptedError unless the program in memory is what was loaded."""
        self._session.residence.verify()

    def _limit(self) -> TimeLimit:
        cycles = self._session.cycle_bound if self.limit_cycles is None else self.limit_cycles
        return TimeLimit.of(cycles, self.device, watchdog=self._watchdog)

    @contextmanager
    def _running(self) -> Iterator[TimeLimit]:
        """Have the core to oneself, with the watchdog set; leave it fit for the next run."""
        limit = self._limit()
        with self._session.running():
            if self._watchdog:
                self.core.set("watchdog", limit.watchdog)
            yield limit

    def _steps(
        self, images: Sequence[NDArray[np.int8]], limit: TimeLimit
    ) -> Waits[tuple[list[NDArray[np.int8]], list[int]]]:
        residence = self._session.residence
        found = yield from run_batch(self.core, residence, images, limit)
        if self.verify_when == "run":
            residence.verify()
        return found

    def _result(
        self, inputs: Sequence[NDArray[np.int8]], outputs: list[NDArray[np.int8]],
        cycles: list[int],
    ) -> RunResult:
        program = self._session.residence.program
        single = np.ndim(inputs[0]) == 3
        return RunResult(
            program=program, cycles=tuple(cycles),
            outputs={info.name: value[0] if single else value
                     for info, value in zip(program.outputs, outputs, strict=True)})
