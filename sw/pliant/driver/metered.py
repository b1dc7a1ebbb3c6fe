"""Counts what a driver does to a device."""

from __future__ import annotations

from pliant.driver.device import Buffer, Device, Value, Waits


class MeteredDevice:
    """A device in front of another that counts register accesses and waits.

    Parameters
    ----------
    device : Device

    Attributes
    ----------
    reads, writes : int
        Accesses to 32-bit registers.
    waits : int
        Calls of :meth:`wait` and :meth:`wait_async`.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.reads = self.writes = self.waits = 0

    @property
    def accesses(self) -> int:
        """Reads and writes."""
        return self.reads + self.writes

    @property
    def clock_hz(self) -> float:
        """That of the device."""
        return self._device.clock_hz

    @property
    def interrupt_latency_s(self) -> float:
        """That of the device."""
        return self._device.interrupt_latency_s

    def read(self, offset: int) -> int:
        """Count and read."""
        self.reads += 1
        return self._device.read(offset)

    def write(self, offset: int, value: int) -> None:
        """Count and write."""
        self.writes += 1
        self._device.write(offset, value)

    def allocate(self, nbytes: int) -> Buffer:
        """Allocate."""
        return self._device.allocate(nbytes)

    def wait(self, timeout_s: float) -> bool:
        """Count and wait."""
        self.waits += 1
        return self._device.wait(timeout_s)

    def run(self, waits: Waits[Value]) -> Value:
        """Count the waits and do them."""
        return self._device.run(self._counted(waits))

    async def wait_async(self, timeout_s: float) -> bool:
        """Count and wait."""
        self.waits += 1
        return await self._device.wait_async(timeout_s)

    def _counted(self, waits: Waits[Value]) -> Waits[Value]:
        try:
            timeout = next(waits)
            while True:
                self.waits += 1
                came = yield timeout
                timeout = waits.send(came)
        except StopIteration as end:
            value: Value = end.value
            return value

    def listen(self) -> None:
        """Pass it on."""
        self._device.listen()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._device.sleep(seconds)
