"""Runs programs on a core: one image or batches, with the next image copied meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pliant.driver.bounds import cycle_bound
from pliant.driver.core import RESET_LIMIT_CYCLES, Core
from pliant.driver.device import Device, Waits
from pliant.driver.faults import (
    DriverError,
    LostInterruptError,
    MemoryCorruptedError,
    ProgramMismatchError,
    ResetTimeoutError,
    RunTimeoutError,
    add_note,
)
from pliant.driver.image import MemoryImage
from pliant.driver.inputs import batches
from pliant.driver.profile import Profile, measure
from pliant.driver.residence import Residence
from pliant.driver.result import RunResult, quantize
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import End
from pliant.spec.program import Program, Segment, load_program, parse_program
from pliant.spec.registers import Interrupt, Status

Verify = Literal["load", "run"]
_WATCHDOG_MAX = (1 << 32) - 1
_FAULT = int(Interrupt.FAULT)
_FALSE_ALARMS = 16
"""Times that a wait may end without the core having stopped."""


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
        if limit_cycles is not None and limit_cycles < 1:
            raise ValueError(f"limit_cycles = {limit_cycles!r} must be 1 or more, or None")
        self.device = device
        self.config = config
        self.limit_cycles = limit_cycles
        self.verify_when = verify
        self.core = Core(device)
        self._slots = slots
        self._recovers = recover
        self._watchdog = watchdog
        self._residence: Residence | None = None
        self._bound = 0
        self.core.identify(config)
        self.core.reset()
        self._at_rest = True
        self._running = threading.Lock()

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
        with self._alone():
            self._close()

    @property
    def program(self) -> Program | None:
        """The program in memory."""
        return None if self._residence is None else self._residence.program

    @property
    def image(self) -> MemoryImage:
        """Memory of the program; RuntimeError when none is loaded."""
        return self._loaded().images[0]

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
        if program.fingerprint != self.config.fingerprint:
            raise ProgramMismatchError(
                f"program {program.network!r} is compiled for configuration "
                f"{program.config_name!r} (fingerprint {program.fingerprint:016x}), the core is "
                f"{self.config.name!r} ({self.config.fingerprint:016x}); compile it again with "
                f"--config {self.config.name}, or load the bitstream of {program.config_name!r}")
        with self._alone():
            self._rest()
            self._close()
            bound = cycle_bound(program, self.config)
            residence = Residence(program, self.config, self.device, slots=self._slots)
            try:
                residence.verify()
                self.core.forget()  # another driver may have had the core and these addresses
                self._configure(residence)
            except BaseException:
                residence.free()
                raise
            self._residence, self._bound = residence, bound
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
        images = batches(self._loaded().program, inputs)
        with self._recovering():
            outputs, cycles = self.device.run(self._run(images))
        return self._result(inputs, outputs, cycles)

    async def run_async(self, *inputs: NDArray[np.int8]) -> RunResult:
        """Do what :meth:`run` does and let other coroutines run meanwhile.

        One run at a time. A run that is cancelled resets the core.
        """
        images = batches(self._loaded().program, inputs)
        with self._recovering():
            steps = self._run(images)
            try:
                timeout = next(steps)
                while True:
                    timeout = steps.send(await self.device.wait_async(timeout))
            except StopIteration as end:
                outputs, cycles = end.value
        return self._result(inputs, outputs, cycles)

    def profile(self, *inputs: NDArray[np.int8]) -> Profile:
        """Return what each layer adds to a run; :mod:`pliant.driver.profile` says what that means.

        Runs as many programs as there are layers, each a layer longer, on the first image given
        (zeros if none), and raises what :meth:`run` does.
        """
        program = self._loaded().program
        given = inputs or [np.zeros(info.image_shape, np.int8) for info in program.inputs]
        return measure(program, self.config, lambda index: self.run_prefix(index, *given))

    def run_prefix(self, index: int, *inputs: NDArray[np.int8]) -> dict[str, int]:
        """Run one image through the instructions before `index`; return all counters.

        The instruction at `index` is replaced by End meanwhile. Outputs are not read.
        """
        residence = self._loaded()
        tensors = [batch[0] for batch in batches(residence.program, inputs)]

        def steps() -> Waits[dict[str, int]]:
            residence.write_inputs(0, tensors)
            self._select(0)
            yield from self._compute()
            return self.core.counters()

        with self._recovering():
            residence.images[0].replace_instruction(index, End().encode())
            residence.flush_program()
            self.core.set("program_length", index + 1)
            counters = self.device.run(steps())
            residence.restore()
            self._configure(residence)
        return counters

    def quantize(self, *real: NDArray[np.floating[Any]]) -> list[NDArray[np.int8]]:
        """Return real-valued inputs of the loaded program as int8, see :func:`quantize`."""
        return [quantize(value, info)
                for value, info in zip(real, self._loaded().program.inputs, strict=True)]

    def reset(self) -> None:
        """Soft reset of the core; the program in memory is checked and written again if need be.

        Raises
        ------
        ResetTimeoutError
            The reset does not complete.
        MemoryCorruptedError
            The memory does not hold what is written to it.
        """
        with self._alone():
            self._reset()

    def verify(self) -> None:
        """Raise MemoryCorruptedError unless the program in memory is what was loaded."""
        self._loaded().verify()

    def _loaded(self) -> Residence:
        if self._residence is None:
            raise RuntimeError("no program is loaded; load() one first")
        return self._residence

    def _result(
        self, inputs: Sequence[NDArray[np.int8]], outputs: list[NDArray[np.int8]],
        cycles: list[int],
    ) -> RunResult:
        program = self._loaded().program
        single = inputs[0].ndim == 3
        return RunResult(
            program=program, cycles=tuple(cycles),
            outputs={info.name: value[0] if single else value
                     for info, value in zip(program.outputs, outputs, strict=True)})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("the core is running; one run at a time")
        try:
            yield
        finally:
            self._running.release()

    def _close(self) -> None:
        if self._residence is None:
            return
        try:
            if not self._at_rest:
                self.core.set("window_limit", 0)
                self.core.set("window_base", 0)
                self.core.reset()
                self._at_rest = True
        finally:
            residence, self._residence = self._residence, None
            residence.free()

    def _configure(self, residence: Residence) -> None:
        image = residence.images[0]
        for name, value in (
            ("program_base", image.program_base), ("program_length", image.program_length),
            ("window_base", residence.window[0]), ("window_limit", residence.window[1]),
            ("interrupt_enable", Interrupt.DONE | Interrupt.FAULT),
            *((f"segment_{segment}", base) for segment, base in enumerate(image.segment_bases)),
        ):
            self.core.set(name, value)

    def _select(self, slot: int) -> None:
        bases = self._loaded().images[slot].segment_bases
        self.core.set(f"segment_{Segment.INPUT}", bases[Segment.INPUT])
        self.core.set(f"segment_{Segment.OUTPUT}", bases[Segment.OUTPUT])

    def _limit(self) -> int:
        return self._bound if self.limit_cycles is None else self.limit_cycles

    def _run(
        self, inputs: Sequence[NDArray[np.int8]]
    ) -> Waits[tuple[list[NDArray[np.int8]], list[int]]]:
        residence = self._loaded()
        count = len(inputs[0])
        outputs = [np.empty((count, *info.image_shape), np.int8)
                   for info in residence.program.outputs]
        cycles = []

        def write(index: int) -> None:
            residence.write_inputs(index % self._slots, [batch[index] for batch in inputs])

        def read(index: int) -> None:
            for output, value in zip(outputs, residence.read_outputs(index % self._slots),
                                     strict=True):
                output[index] = value

        def meanwhile(index: int) -> Callable[[], None]:
            def copy() -> None:
                if index:
                    read(index - 1)
                if index + 1 < count:
                    write(index + 1)
            return copy

        overlap = self._slots > 1
        for index in range(count):
            if index == 0 or not overlap:
                write(index)
            self._select(index % self._slots)
            yield from self._compute(meanwhile(index) if overlap else lambda: None)
            cycles.append(self.core.cycles())
            if not overlap or index + 1 == count:
                read(index)
        if self.verify_when == "run":
            residence.verify()
        return outputs, cycles

    def _compute(self, meanwhile: Callable[[], None] = lambda: None) -> Waits[None]:
        """Start the core, do something else, and wait until it is done."""
        program = self._loaded().program
        self.core.start()
        meanwhile()
        # A watchdog stops the core before this is over.
        limit = self._limit() + (RESET_LIMIT_CYCLES if self._watchdog else 0)
        seconds = limit / self.device.clock_hz + self.device.interrupt_latency_s
        events = 0
        for _ in range(_FALSE_ALARMS):
            came = yield seconds
            if not came:
                break
            events = self.core.take_events()
            if events:
                break
        if events & _FAULT:
            raise self.core.fault(program)
        if not events:
            status = self.core.status()
            if status & (Status.DONE | Status.FAULT):
                raise LostInterruptError(program.network, status, seconds)
            raise RunTimeoutError(program.network, seconds, self.core.activity())

    @contextmanager
    def _recovering(self) -> Iterator[None]:
        """Leave core and memory fit for the next run, whatever is raised inside."""
        with self._alone():
            self._rest()
            if self._watchdog:
                limit = self._limit()
                self.core.set("watchdog", limit if limit <= _WATCHDOG_MAX else 0)
            self._at_rest = False
            try:
                yield
                self._at_rest = True
            except BaseException as error:
                if self._recovers:
                    self._recover(error)
                raise

    def _recover(self, error: BaseException) -> None:
        """Reset the core after an error; what does not succeed is left to the next run."""
        try:
            corrupted = self._reset()
        except (ResetTimeoutError, MemoryCorruptedError) as stuck:
            add_note(error, str(stuck))
        else:
            if corrupted is not None and not isinstance(error, MemoryCorruptedError):
                add_note(error, str(corrupted))

    def _reset(self) -> MemoryCorruptedError | None:
        """Do what :meth:`reset` does; return what was wrong with the memory."""
        self._at_rest = False
        self.core.reset()
        corrupted = None
        residence = self._residence
        if residence is not None:
            self._configure(residence)
            try:
                residence.verify()
            except MemoryCorruptedError as error:
                corrupted = error
                residence.restore()
                residence.verify()
        self._at_rest = True
        return corrupted

    def _rest(self) -> None:
        if not self._at_rest:
            if not self._recovers:
                raise DriverError("the core has not finished its last run or stopped with a fault; "
                                  "reset() it before the next")
            self._reset()
        elif self._residence is not None and self.core.was_changed("program_base"):
            # Another driver has used the core, or its bitstream was loaded again.
            self.core.identify(self.config)
            self.core.forget()
            self._reset()
