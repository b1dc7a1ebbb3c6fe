"""One board: the core, the interrupt controller, the processing system, memory, and time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import INTERRUPT_SPACE_BYTES, Platform
from pliant.spec.registers import REGISTER_SPACE_BYTES, REGISTERS, Control, Status
from pliant_sim.board.bitstream import StandIn
from pliant_sim.board.errors import BoardError, BusError
from pliant_sim.board.handoff import INTERRUPT_BY_EDGE
from pliant_sim.board.interrupt_controller import InterruptController
from pliant_sim.board.memory import BoardMemory
from pliant_sim.board.processing_system import ProcessingSystem
from pliant_sim.core import MemoryTiming, RtlCore

MEMORY_BYTES = 256 << 20

CYCLES_PER_SECOND = 20_000
"""What the simulation manages at least; the driver derives its time limits from it."""

_SLICE = 1000  # cycles between looks at whether the core is still busy
_CONTROL = REGISTERS["control"].address
_STATUS = REGISTERS["status"].address
_ACTS = int(Control.START | Control.RESET)
_BUSY = int(Status.RUNNING | Status.DRAINING)


class Board:
    """A board of a platform with any configuration in its logic; PYNQ and gRPC stand in front.

    Simulated time passes during register accesses and in :meth:`step`. While a program runs, an
    access to the core or the interrupt controller takes `access_cycles` more, so that a loop that
    polls a register ends; while the core is idle, time stands still between accesses.

    Any thread may call any method.

    Parameters
    ----------
    platform : Platform
        Gives addresses, clock and family.
    config : AcceleratorConfig or None
        The hardware; None for what is built for the platform.
    timing : MemoryTiming or None
        None for that of the configuration's board.
    memory_bytes : int
        Memory that can be allocated.
    coherent : bool
        See :class:`pliant_sim.board.memory.BoardMemory`.
    access_cycles : int
        What a register access costs a processor, in cycles of the core.

    Attributes
    ----------
    core : RtlCore
    memory : BoardMemory
    on_access : callable
        Called after writes to the core or the interrupt controller.
    """

    def __init__(
        self, platform: Platform, config: AcceleratorConfig | None = None, *,
        timing: MemoryTiming | None = None, memory_bytes: int = MEMORY_BYTES,
        coherent: bool = False, access_cycles: int = 1000,
    ) -> None:
        if access_cycles < 0:
            raise ValueError(f"access_cycles = {access_cycles} must be 0 or more")
        self.platform = platform
        self.config = platform.config if config is None else config
        self.access_cycles = access_cycles
        self.memory = BoardMemory(memory_bytes, coherent=coherent)
        self.core = RtlCore(self.config, timing=timing)
        self.core.set_memory(self.memory.device_bytes, self.memory.base)
        self.on_access: Callable[[], None] = lambda: None
        self._core_address = platform.core_address
        self._interrupt_offset = platform.interrupt_address - platform.core_address
        self._interrupts = InterruptController(edge=INTERRUPT_BY_EDGE)
        self._processing_system = ProcessingSystem(platform.family)
        self._lock = threading.RLock()
        self._loaded: StandIn | None = None
        self._closed = False
        self._busy = False

    @property
    def loaded(self) -> StandIn | None:
        """The bitstream that was loaded last."""
        return self._loaded

    @property
    def busy(self) -> bool:
        """Whether the core runs a program or drains a reset."""
        return self._busy

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt to the processing system."""
        return self._interrupts.output

    def close(self) -> None:
        """Free the simulated core; every later access is an error."""
        with self._lock:
            self._closed, self._busy = True, False
            self.core.close()

    def load(self, bitstream: StandIn) -> None:
        """Configure the logic: hard reset of core and interrupt controller, memory is kept.

        Raises
        ------
        BitstreamError
            The bitstream is for another platform or configuration.
        """
        with self._lock:
            self._require_open()
            bitstream.require(self.platform, self.config)
            self.core.power_on()
            self._interrupts.reset()
            self._loaded, self._busy = bitstream, False

    def read(self, address: int) -> int:
        """Return the 32-bit register at an absolute address.

        Raises
        ------
        BusError
            Nothing answers there, or no bitstream is loaded.
        pliant_sim.core.RtlError
            The core does not answer, or broke a rule of AXI.
        """
        with self._lock:
            offset = self._offset(address)
            if offset is None:
                return self._processing_system.read(address)
            if offset < REGISTER_SPACE_BYTES:
                value = self.core.read_word(offset)
            else:
                value = self._interrupts.read(offset - self._interrupt_offset)
            self._pass_time(self.access_cycles)
            return value

    def write(self, address: int, value: int) -> None:
        """Write the 32-bit register at an absolute address; raises what :meth:`read` does."""
        if not 0 <= value < 1 << 32:
            raise ValueError(f"value {value:#x} for address {address:#x} does not fit 32 bits")
        with self._lock:
            offset = self._offset(address)
            if offset is None:
                self._processing_system.write(address, value)
                return
            if offset < REGISTER_SPACE_BYTES:
                self.core.write_word(offset, value)
                if offset == _CONTROL and value & _ACTS:
                    self._busy = self._look()
            else:
                self._interrupts.write(offset - self._interrupt_offset, value)
            self._sample()
        self.on_access()

    def step(self, cycles: int) -> bool:
        """Let up to `cycles` pass while the core is busy; return whether the interrupt is raised.

        Returns early when the interrupt is raised or the core is idle.
        """
        with self._lock:
            self._require_open()
            self._sample()
            while self._busy and cycles > 0 and not self.interrupt:
                self._pass_time(min(cycles, _SLICE), until_interrupt=not self._interrupts.input)
                cycles -= _SLICE
            return self.interrupt

    def _offset(self, address: int) -> int | None:
        """Return the offset from the core's registers, or None for the processing system."""
        self._require_open()
        if address % 4:
            raise BusError(f"address {address:#x} is no multiple of 4")
        offset = address - self._core_address
        interrupts = self._interrupt_offset
        if not (0 <= offset < REGISTER_SPACE_BYTES
                or interrupts <= offset < interrupts + INTERRUPT_SPACE_BYTES):
            return None
        if self._loaded is None:
            raise BusError(f"access to address {address:#x} with no bitstream loaded: a board "
                           "would hang; load an overlay first")
        return offset

    def _pass_time(self, cycles: int, *, until_interrupt: bool = False) -> None:
        while self._busy and cycles > 0:
            self.core.run(min(cycles, _SLICE), until_interrupt=until_interrupt)
            cycles -= _SLICE
            self._busy = self._look()
        self._sample()

    def _look(self) -> bool:
        return bool(self.core.read_word(_STATUS) & _BUSY)

    def _sample(self) -> None:
        self._interrupts.sample(self.core.run(1))

    def _require_open(self) -> None:
        if self._closed:
            raise BoardError("the virtual board is closed")
