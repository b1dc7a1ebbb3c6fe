"""A core and the program in its memory: who may use them, and what mends them after a failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pliant.driver.bounds import cycle_bound
from pliant.driver.core import Core
from pliant.driver.device import Device
from pliant.driver.faults import DriverError, MemoryCorruptedError, ResetTimeoutError, add_note
from pliant.driver.residence import Residence
from pliant.spec.config import AcceleratorConfig
from pliant.spec.program import Program
from pliant.spec.registers import Interrupt


class Session:
    """Keeps a core and the memory of its program fit for the next run, one use at a time.

    Parameters
    ----------
    device : Device
    config : AcceleratorConfig
        What the core is built from.
    recover : bool
        Whether to mend core and memory after each failure, or only when :meth:`reset` is called.

    Attributes
    ----------
    core : Core
    cycle_bound : int
        What the program in memory takes at most, by :func:`pliant.driver.bounds.cycle_bound`; 1
        without one.

    Raises
    ------
    HardwareMismatchError
        The core is not of this configuration or release.
    ResetTimeoutError
        The core does not come to rest.
    """

    def __init__(self, device: Device, config: AcceleratorConfig, *, recover: bool) -> None:
        self.core = Core(device)
        self._device = device
        self._config = config
        self._recovers = recover
        self._residence: Residence | None = None
        self.cycle_bound = 1
        self._running = threading.Lock()
        self.core.identify(config)
        self.core.reset()
        self._at_rest = True

    @property
    def program(self) -> Program | None:
        """The program in memory."""
        return None if self._residence is None else self._residence.program

    @property
    def residence(self) -> Residence:
        """Memory of the program; RuntimeError when none is loaded."""
        if self._residence is None:
            raise RuntimeError("no program is loaded; load() one first")
        return self._residence

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Raise RuntimeError if the core is in use; keep others away inside."""
        if not self._running.acquire(blocking=False):
            raise RuntimeError("the core is running; one run at a time")
        try:
            yield
        finally:
            self._running.release()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Leave core and memory fit for the next run, whatever is raised inside."""
        with self.alone():
            self._rest()
            self._at_rest = False
            try:
                yield
                self._at_rest = True
            except BaseException as error:
                if self._recovers:
                    self._recover(error)
                raise

    def place(self, program: Program, slots: int) -> None:
        """Place a program in memory in the place of the one before; see :class:`Residence`."""
        with self.alone():
            self._rest()
            self._close()
            bound = cycle_bound(program, self._config)
            residence = Residence(program, self._config, self._device, slots=slots)
            try:
                residence.verify()
                self.core.forget()  # another driver may have had the core and these addresses
                self._configure(residence)
            except BaseException:
                residence.free()
                raise
            self._residence, self.cycle_bound = residence, bound

    def restore(self) -> None:
        """Write the program again and set the registers for it; inside :meth:`running`."""
        self.residence.restore()
        self._configure(self.residence)

    def reset(self) -> None:
        """Reset the core; compare the program in memory and write it again if need be.

        Raises
        ------
        ResetTimeoutError
            The reset does not complete.
        MemoryCorruptedError
            The memory does not hold what is written to it.
        """
        with self.alone():
            self._reset()

    def close(self) -> None:
        """Stop the core and give all memory back, even if the core cannot be stopped."""
        with self.alone():
            self._close()

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
        self._device.listen()
        image = residence.images[0]
        for name, value in (
            ("program_base", image.program_base), ("program_length", image.program_length),
            ("window_base", residence.window[0]), ("window_limit", residence.window[1]),
            ("interrupt_enable", Interrupt.DONE | Interrupt.FAULT),
            *((f"segment_{segment}", base) for segment, base in enumerate(image.segment_bases)),
        ):
            self.core.set(name, value)

    def _rest(self) -> None:
        """Make sure that the core is at rest and set up for the program."""
        if not self._at_rest:
            if not self._recovers:
                raise DriverError("the core has not finished its last run or stopped with a fault; "
                                  "reset() it before the next")
            self._reset()
        elif self._residence is not None and self.core.was_changed("program_base"):
            # Another driver has used the core, or its bitstream was loaded again.
            self.core.identify(self._config)
            self.core.forget()
            self._reset()

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
