"""The driver on a board with PYNQ (3.x or 4.0), or on PYNQ.remote.

Importing this module before an overlay is loaded lets PYNQ find the driver by the core's name::

    from pynq import Overlay
    import pliant.driver.pynq

    overlay = Overlay("pliant_ultra96.bit")
    with overlay.pliant_core_0.accelerator() as accelerator:
        accelerator.load("digits.pliant")
        print(accelerator.run(images).classes())
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
import warnings
from collections.abc import Generator
from typing import Any, ClassVar

import numpy as np
import pynq
from numpy.typing import NDArray

from pliant.driver.accelerator import Accelerator
from pliant.driver.alarm import Alarm
from pliant.driver.core import EVENTS, INTERRUPT_STATUS, identify_configuration
from pliant.driver.device import Value, Waits, run_waits
from pliant.driver.manifest import Manifest
from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import CORE_VLNV, SIMULATED_RATE_FILE

INTERRUPT_LATENCY_S = 2.0
"""What Linux and Python may take to pass an interrupt on."""

REMOTE_LATENCY_S = 60.0
"""The same over a network, whose other end may be a simulated board."""

_POLL_S = (20e-6, 1e-3)  # shortest and longest sleep between polls
# Of AMD's AXI interrupt controller (product guide PG099), as PYNQ sets it
_MASTER_ENABLE, _OUTPUT_AND_INPUTS = 0x1C, 0b11


class PynqMemory:
    """A buffer of PYNQ; cacheable, so it is flushed and invalidated.

    Parameters
    ----------
    buffer : PynqBuffer or RemoteBuffer

    Attributes
    ----------
    array : uint8 array
        A plain view: arrays derived from it do not carry the buffer's methods.
    address : int
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self.array: NDArray[np.uint8] = buffer.view(np.ndarray)
        self.address = int(buffer.device_address)

    def flush(self) -> None:
        """Write the processor's caches back, or send the bytes to a remote board."""
        self._buffer.flush()

    def invalidate(self) -> None:
        """Drop what the processor's caches hold, or fetch the bytes from a remote board."""
        self._buffer.invalidate()

    def free(self) -> None:
        """Give the memory back; the array must not be used afterwards."""
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self.array = np.zeros(0, np.uint8)
            buffer.freebuffer()
            buffer.freed = True  # PYNQ 4.0.0 would free pooled memory once more


class PynqDevice:
    """The driver's device over an IP of an overlay.

    The interrupt is awaited in the event loop in which the overlay's IP was made, because PYNQ
    listens there. In another loop, in a plain :meth:`wait` while a loop runs (as a notebook's
    does), and where PYNQ has no interrupts (PYNQ.remote), the interrupt's register is polled, with
    sleeps of up to a millisecond.

    Parameters
    ----------
    ip : pynq.DefaultIP
        Bound to the core.
    config : AcceleratorConfig
    loop : event loop or None
        Where PYNQ listens for interrupts; None to poll.
    clock_hz : float or None
        Clock of the core, for time limits alone; None for that of the configuration's board.
    interrupt_latency_s : float or None
        See :class:`pliant.driver.device.Device`; None for a default.
    """

    def __init__(
        self, ip: Any, config: AcceleratorConfig, *,
        loop: asyncio.AbstractEventLoop | None = None, clock_hz: float | None = None,
        interrupt_latency_s: float | None = None,
    ) -> None:
        remote = ip.device.has_capability("REMOTE")
        simulated = _simulated_rate(ip.device)
        self._ip = ip
        self._mmio = ip.mmio
        self._loop = loop
        interrupt = getattr(ip, "irq", None)
        self._interrupt: Any = interrupt if inspect.iscoroutinefunction(
            getattr(interrupt, "wait", None)) else None
        self.clock_hz: float = clock_hz or simulated or config.board.clock_mhz * 1e6
        self.interrupt_latency_s: float = (
            interrupt_latency_s if interrupt_latency_s is not None
            else REMOTE_LATENCY_S if remote else INTERRUPT_LATENCY_S)

    @property
    def has_interrupt(self) -> bool:
        """Whether PYNQ has an interrupt for the core's pin `irq`."""
        return self._interrupt is not None

    def read(self, offset: int) -> int:
        """Return the 32-bit register at a byte offset."""
        return int(self._mmio.read(offset))

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        self._mmio.write(offset, int(value))  # PYNQ asks for an int that is no enumeration

    def allocate(self, nbytes: int) -> PynqMemory:
        """Return a buffer; MemoryError when there is not enough memory."""
        try:
            buffer = pynq.allocate((nbytes,), np.uint8, target=self._ip.device, cacheable=1)
        except (RuntimeError, OSError) as error:  # what XRT says, by release
            raise MemoryError(str(error)) from error
        return PynqMemory(buffer)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the interrupt, or poll where that is not possible."""
        loop = self._usable_loop()
        if loop is not None:
            return loop.run_until_complete(self._interrupted(timeout_s))
        polls = self._polls(timeout_s)
        try:
            while True:
                time.sleep(next(polls))
        except StopIteration as end:
            return bool(end.value)

    def run(self, waits: Waits[Value]) -> Value:
        """Do every :meth:`wait` that a generator asks for; return what it returns.

        With an interrupt, all in one run of the event loop, which takes long to start.
        """
        loop = self._usable_loop()
        if loop is None:
            return run_waits(self, waits)
        task = loop.create_task(self._run(waits))
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():  # Ctrl-C, say: it must not go on when the loop runs again
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
            raise

    async def _run(self, waits: Waits[Value]) -> Value:
        task = asyncio.current_task()
        assert task is not None
        alarm = Alarm(task)
        try:
            timeout = next(waits)
            while True:
                alarm.set(timeout)
                try:
                    await self._interrupt.wait()
                except asyncio.CancelledError:
                    if not alarm.rang:
                        raise
                alarm.stop()
                timeout = waits.send(not alarm.rang)
        except StopIteration as end:
            value: Value = end.value
            return value
        finally:
            alarm.close()

    def _usable_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop where PYNQ listens, if it can be run here and now."""
        loop = self._loop
        if self._interrupt is None or loop is None or loop.is_closed() or _loop_runs():
            return None
        return loop

    async def wait_async(self, timeout_s: float) -> bool:
        """Wait for the interrupt, or poll where that is not possible."""
        if self._interrupt is None or asyncio.get_running_loop() is not self._loop:
            polls = self._polls(timeout_s)
            try:
                while True:
                    await asyncio.sleep(next(polls))
            except StopIteration as end:
                return bool(end.value)
        return await self._interrupted(timeout_s)

    def listen(self) -> None:
        """Let the interrupt controller keep what it sees.

        It keeps nothing before it is told to, which PYNQ does in its first wait; the core may have
        finished its first run by then.
        """
        controller = None if self._interrupt is None else self._interrupt.parent()
        if controller is not None and hasattr(controller, "mmio"):
            controller.mmio.write(_MASTER_ENABLE, _OUTPUT_AND_INPUTS)

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def _polls(self, timeout_s: float) -> Generator[float, None, bool]:
        """Yield how long to sleep before the next look; return whether the interrupt came."""
        deadline = time.monotonic() + timeout_s
        pause, longest = _POLL_S
        while not self._raised():
            if time.monotonic() > deadline:
                return False
            yield pause
            pause = min(2 * pause, longest)
        return True

    def _raised(self) -> bool:
        return bool(self.read(INTERRUPT_STATUS) & EVENTS)

    async def _interrupted(self, timeout_s: float) -> bool:
        # Not asyncio.wait_for: before Python 3.12, it forgets that it was cancelled when the
        # interrupt comes at the same moment.
        waiting = asyncio.ensure_future(self._interrupt.wait())
        try:
            done, _ = await asyncio.wait({waiting}, timeout=timeout_s)
        finally:
            waiting.cancel()
        if done:
            waiting.result()  # raises what PYNQ raised
        return bool(done)


class PliantDriver(pynq.DefaultIP):  # type: ignore[misc]  # PYNQ has no types
    """What ``overlay.pliant_core_0`` is, once this module is imported.

    Parameters
    ----------
    description : dict
        PYNQ's, of the IP.
    """

    bindto: ClassVar[list[str]] = [CORE_VLNV]

    def __init__(self, description: Any) -> None:
        super().__init__(description)
        self._loop = _current_loop()

    def accelerator(
        self, config: AcceleratorConfig | None = None, *,
        manifest: Manifest | None = None, clock_hz: float | None = None,
        interrupt_latency_s: float | None = None, **options: Any,
    ) -> Accelerator:
        """Return the accelerator on this core; close it to give its memory back.

        Parameters
        ----------
        config : AcceleratorConfig or None
            What the core is built from; None to find it by the core's fingerprint, among the
            presets and in `manifest`.
        manifest : Manifest or None
            That of the bitstream; the core is compared with it.
        clock_hz, interrupt_latency_s
            See :class:`PynqDevice`.
        **options
            Of :class:`pliant.driver.accelerator.Accelerator`.

        Raises
        ------
        HardwareMismatchError
            The core is another one than `config` or `manifest` says, or an unknown one.
        """
        if clock_hz is None and manifest is not None:
            clock_hz = manifest.clock_mhz * 1e6
        if config is None or manifest is not None:
            found = identify_configuration(lambda offset: int(self.mmio.read(offset)), manifest)
            config = found if config is None else config
        device = PynqDevice(self, config, loop=self._loop, clock_hz=clock_hz,
                            interrupt_latency_s=interrupt_latency_s)
        return Accelerator(device, config, **options)


def _simulated_rate(device: Any) -> float | None:
    """Return how many cycles a virtual board manages in a second; None for a real one."""
    if not device.has_capability("REMOTE"):
        rate: float | None = getattr(device, "cycles_per_second", None)
        return rate
    if not device.exists_file(SIMULATED_RATE_FILE).exists:
        return None
    return float(device.read_file(SIMULATED_RATE_FILE))


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop in which PYNQ listens: it asks in the same way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return asyncio.get_event_loop()
        except RuntimeError:
            return None
