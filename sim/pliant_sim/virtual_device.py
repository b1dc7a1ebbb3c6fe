"""The driver's device over the simulated RTL, with one block of simulated DDR memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pliant.driver.image import PAGE_BYTES
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import round_up
from pliant.spec.registers import REGISTERS, Control, Status
from pliant_sim.core import MemoryTiming, RtlCore, Statistics

MEMORY_BASE = 0x1000_0000
MEMORY_BYTES = 1 << 30
"""The host gives only the pages that are used."""

FREED = 0xDD
"""Byte that fills memory when it is given back: what is used after that shows it."""

_LOOK = 50_000  # cycles between looks at whether a core without an interrupt still runs
_STATUS, _CONTROL = REGISTERS["status"].address, REGISTERS["control"].address


class VirtualBuffer:
    """Memory of a :class:`VirtualDevice`; without caches, so flushing does nothing.

    Attributes
    ----------
    array : uint8 array
    address : int
    """

    def __init__(self, device: VirtualDevice, array: NDArray[np.uint8], address: int) -> None:
        self._device: VirtualDevice | None = device
        self.array = array
        self.address = address

    def flush(self) -> None:
        """Do nothing: the core sees what is written."""

    def invalidate(self) -> None:
        """Do nothing: the processor sees what the core wrote."""

    def free(self) -> None:
        """Give the memory back; does nothing the second time."""
        if self._device is not None:
            self.array[:] = FREED
            self._device.release(self.address)
            self._device = None


class VirtualDevice:
    """A board that is simulated: the core's RTL and its memory.

    Time passes while registers are accessed and, in :meth:`wait` and :meth:`sleep`, while the core
    runs or drains; an idle core waits in no time.

    Parameters
    ----------
    core : RtlCore
    memory_bytes : int
        Size of the memory.

    Attributes
    ----------
    core : RtlCore
        Faults to inject, timing, statistics.
    memory : uint8 array
        The memory, from address `MEMORY_BASE` on.
    started : Statistics
        What the core had counted when it was started last.
    on_wait : callable
        Called now and then while :meth:`wait` waits.
    """

    interrupt_latency_s = 0.0

    def __init__(self, core: RtlCore, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.core = core
        self.memory: NDArray[np.uint8] = np.zeros(memory_bytes, np.uint8)
        self.started: Statistics = core.statistics()
        self.on_wait: Callable[[], None] = lambda: None
        self._held: dict[int, int] = {}
        core.set_memory(self.memory, MEMORY_BASE)

    @classmethod
    def of(
        cls, config: AcceleratorConfig, *, timing: MemoryTiming | None = None,
        source: str | None = None, memory_bytes: int = MEMORY_BYTES,
    ) -> VirtualDevice:
        """Return a device with a new core, see :class:`pliant_sim.core.RtlCore`."""
        return cls(RtlCore(config, timing=timing, source=source), memory_bytes=memory_bytes)

    @property
    def clock_hz(self) -> float:
        """Clock of the configuration's board: simulated seconds are cycles divided by it."""
        return self.core.config.board.clock_mhz * 1e6

    @property
    def allocated_bytes(self) -> int:
        """Bytes that are allocated and not freed."""
        return sum(self._held.values())

    @property
    def allocated_buffers(self) -> int:
        """Buffers that are allocated and not freed."""
        return len(self._held)

    def read(self, offset: int) -> int:
        """Return the 32-bit register at a byte offset; takes the core a few cycles."""
        return self.core.read_word(offset)

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset; takes the core a few cycles."""
        if offset == _CONTROL and value & Control.START:
            self.started = self.core.statistics()
        self.core.write_word(offset, value)

    def allocate(self, nbytes: int) -> VirtualBuffer:
        """Return the first free memory of that size; MemoryError when there is none."""
        if nbytes < 1:
            raise ValueError(f"nbytes = {nbytes} must be 1 or more")
        start = 0
        for address, held in sorted(self._held.items()):
            if address - MEMORY_BASE - start >= nbytes:
                break
            start = address - MEMORY_BASE + round_up(held, PAGE_BYTES)
        if start + nbytes > len(self.memory):
            raise MemoryError(f"{nbytes} bytes wanted, {self.allocated_bytes} of "
                              f"{len(self.memory)} are allocated")
        self._held[MEMORY_BASE + start] = nbytes
        return VirtualBuffer(self, self.memory[start:start + nbytes], MEMORY_BASE + start)

    def release(self, address: int) -> None:
        """Take back the buffer at an address."""
        del self._held[address]

    def wait(self, timeout_s: float) -> bool:
        """Run the core until it raises the interrupt; False when it stops or the time is over."""
        left = round(timeout_s * self.clock_hz)
        while not self.core.run(min(left, _LOOK)):
            self.on_wait()
            left -= _LOOK
            if left <= 0 or not self._busy():
                return self.core.run(1)  # it may have stopped during the look
        return True

    async def wait_async(self, timeout_s: float) -> bool:
        """Do what :meth:`wait` does; the simulation does not let other coroutines run."""
        return self.wait(timeout_s)

    def acknowledge(self) -> None:
        """Do nothing: the driver sees the core's own interrupt."""

    def sleep(self, seconds: float) -> None:
        """Run the core for a time if it is busy."""
        if self._busy():
            self.core.run(round(seconds * self.clock_hz), until_interrupt=False)

    def close(self) -> None:
        """Free the model."""
        self.core.close()

    def _busy(self) -> bool:
        return bool(self.core.read_word(_STATUS) & (Status.RUNNING | Status.DRAINING))
