"""What the driver needs of a board: registers, memory that the core can reach, an interrupt.

:mod:`pliant.driver.pynq` has it through PYNQ, ``pliant_sim.virtual_device`` from the simulated RTL.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")
Waits = Generator[float, bool, Value]
"""Yields how many seconds to wait for the interrupt, is sent whether it came, returns a value."""


class Area(Protocol):
    """Bytes of memory, as the processor and as the core see them."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """The bytes, one-dimensional and writable."""

    @property
    def address(self) -> int:
        """Where the core finds the first byte."""


class Buffer(Area, Protocol):
    """Memory that a device lends; physically contiguous, starting on a page of 4 KiB."""

    def flush(self) -> None:
        """Make what the processor wrote visible to the core."""

    def invalidate(self) -> None:
        """Make what the core wrote visible to the processor."""

    def free(self) -> None:
        """Give the memory back; does nothing the second time."""


class Device(Protocol):
    """A board with one core, programmed and clocked."""

    @property
    def clock_hz(self) -> float:
        """Clock of the core; time limits in seconds are cycles divided by it."""

    @property
    def interrupt_latency_s(self) -> float:
        """Longest time that an interrupt takes from the core to the end of :meth:`wait`."""

    def read(self, offset: int) -> int:
        """Return the 32-bit register at a byte offset."""

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""

    def allocate(self, nbytes: int) -> Buffer:
        """Return a buffer of `nbytes`; MemoryError when there is not enough memory."""

    def wait(self, timeout_s: float) -> bool:
        """Return True once the interrupt is raised, False when it is not within the time.

        It may return True without an interrupt: the caller looks at the core.
        """

    def run(self, waits: Waits[Value]) -> Value:
        """Do every :meth:`wait` that a generator asks for; return what it returns."""

    async def wait_async(self, timeout_s: float) -> bool:
        """Do what :meth:`wait` does and let other coroutines run meanwhile."""

    def listen(self) -> None:
        """See to it that no interrupt from now on is lost, whether it is waited for yet or not."""

    def sleep(self, seconds: float) -> None:
        """Let time pass for the core."""


def run_waits(device: Device, waits: Waits[Value]) -> Value:
    """Do what :meth:`Device.run` asks for by calling :meth:`Device.wait`."""
    try:
        timeout = next(waits)
        while True:
            timeout = waits.send(device.wait(timeout))
    except StopIteration as end:
        value: Value = end.value
        return value
