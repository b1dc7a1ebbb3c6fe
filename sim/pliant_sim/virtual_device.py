"""The driver's device over the simulated RTL and one block of simulated memory, without PYNQ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pliant.driver.device import Value, Waits, run_waits
from pliant.spec.config import AcceleratorConfig
from pliant.spec.registers import REGISTERS, Control, Status
from pliant_sim.board.memory import Allocation, BoardMemory
from pliant_sim.core import MemoryTiming, RtlCore, Statistics

if TYPE_CHECKING:
    from typing_extensions import Self

MEMORY_BYTES = 1 << 30
"""The host gives only the pages that are used."""

_LOOKS = (5_000, 160_000)  # shortest and longest time between looks at whether the core still runs
_STATUS, _CONTROL = REGISTERS["status"].address, REGISTERS["control"].address


class VirtualBuffer:
    """Memory of a :class:`VirtualDevice`.

    Attributes
    ----------
    array : uint8 array
    address : int
    """

    def __init__(self, memory: BoardMemory, allocation: Allocation) -> None:
        self._memory = memory
        self._allocation: Allocation | None = allocation
        self.array: NDArray[np.uint8] = memory.host_view(allocation)
        self.address = allocation.address

    def flush(self) -> None:
        """Make what the processor wrote visible to the core."""
        assert self._allocation is not None
        self._memory.flush(self._allocation, 0, self._allocation.nbytes)

    def invalidate(self) -> None:
        """Make what the core wrote visible to the processor."""
        assert self._allocation is not None
        self._memory.invalidate(self._allocation, 0, self._allocation.nbytes)

    def free(self) -> None:
        """Give the memory back; does nothing the second time."""
        if self._allocation is not None:
            self._memory.free(self._allocation)
            self._allocation = None


class VirtualDevice:
    """A board that is simulated: the core's RTL and its memory.

    Time passes while registers are accessed and, in :meth:`wait` and :meth:`sleep`, while the core
    runs or drains; an idle core waits in no time.

    Parameters
    ----------
    core : RtlCore
    memory_bytes : int
        Size of the memory.
    coherent : bool
        False puts a cache between processor and memory, see
        :class:`pliant_sim.board.memory.BoardMemory`.

    Attributes
    ----------
    core : RtlCore
        Faults to inject, timing, statistics.
    memory : BoardMemory
        Its `live` are the buffers that were not freed.
    started : Statistics
        What the core had counted when it was started last.
    on_wait : callable
        Called now and then while :meth:`wait` waits.
    """

    interrupt_latency_s = 0.0

    def __init__(
        self, core: RtlCore, *, memory_bytes: int = MEMORY_BYTES, coherent: bool = True
    ) -> None:
        self.core = core
        self.memory = BoardMemory(memory_bytes, coherent=coherent)
        self.started: Statistics = core.statistics()
        self.on_wait: Callable[[], None] = lambda: None
        core.set_memory(self.memory.device_bytes, self.memory.base)

    @classmethod
    def of(
        cls, config: AcceleratorConfig, *, timing: MemoryTiming | None = None,
        source: str | None = None, memory_bytes: int = MEMORY_BYTES, coherent: bool = True,
    ) -> Self:
        """Return a device with a new core, see :class:`pliant_sim.core.RtlCore`."""
        return cls(RtlCore(config, timing=timing, source=source), memory_bytes=memory_bytes,
                   coherent=coherent)

    @property
    def clock_hz(self) -> float:
        """Clock of the configuration's board: simulated seconds are cycles divided by it."""
        return self.core.config.board.clock_mhz * 1e6

    def read(self, offset: int) -> int:
        """Return the 32-bit register at a byte offset; takes the core a few cycles."""
        return self.core.read_word(offset)

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset; takes the core a few cycles."""
        if offset == _CONTROL and value & Control.START:
            self.started = self.core.statistics()
        self.core.write_word(offset, value)

    def allocate(self, nbytes: int) -> VirtualBuffer:
        """Return a buffer; MemoryError when there is not enough memory."""
        return VirtualBuffer(self.memory, self.memory.allocate(nbytes))

    def wait(self, timeout_s: float) -> bool:
        """Run the core until it raises the interrupt; False when it stops or the time is over."""
        left = round(timeout_s * self.clock_hz)
        look, longest = _LOOKS
        while not self.core.run(min(left, look)):
            self.on_wait()
            left -= look
            look = min(2 * look, longest)
            if left <= 0 or not self._busy():
                return self.core.run(1)  # it may have stopped during the look
        return True

    def run(self, waits: Waits[Value]) -> Value:
        """Do every :meth:`wait` that a generator asks for; return what it returns."""
        return run_waits(self, waits)

    async def wait_async(self, timeout_s: float) -> bool:
        """Do what :meth:`wait` does; the simulation does not let other coroutines run."""
        return self.wait(timeout_s)

    def listen(self) -> None:
        """Do nothing: the driver sees the core's own interrupt, which stays."""

    def sleep(self, seconds: float) -> None:
        """Run the core for a time if it is busy."""
        if self._busy():
            self.core.run(round(seconds * self.clock_hz), until_interrupt=False)

    def close(self) -> None:
        """Free the model."""
        self.core.close()

    def _busy(self) -> bool:
        return bool(self.core.read_word(_STATUS) & (Status.RUNNING | Status.DRAINING))
