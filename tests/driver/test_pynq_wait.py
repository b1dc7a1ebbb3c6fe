"""How the driver waits for PYNQ's interrupt, without any board."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pliant.driver.pynq import PynqDevice
from pliant.spec.config import preset


class StubInterrupt:
    """An interrupt that is raised by setting its event."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.waits = 0

    async def wait(self) -> None:
        self.waits += 1
        try:
            await self.event.wait()
        finally:
            self.waits -= 1


def device(interrupt: StubInterrupt) -> PynqDevice:
    ip: Any = SimpleNamespace(irq=interrupt, mmio=None,
                              device=SimpleNamespace(has_capability=lambda name: False))
    return PynqDevice(ip, preset("tiny"), loop=asyncio.get_running_loop())


def test_a_wait_ends_with_the_interrupt_or_its_time() -> None:
    async def run() -> None:
        interrupt = StubInterrupt()
        dev = device(interrupt)
        assert not await dev.wait_async(0.01)
        await asyncio.sleep(0)
        assert interrupt.waits == 0, "nothing waits any more"
        interrupt.event.set()
        assert await dev.wait_async(10)

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(4))
def test_a_wait_that_is_cancelled_as_the_interrupt_comes_is_cancelled(turns: int) -> None:
    async def run() -> None:
        interrupt = StubInterrupt()
        waiting = asyncio.create_task(device(interrupt).wait_async(10))
        for _ in range(3):
            await asyncio.sleep(0)
        assert interrupt.waits == 1
        interrupt.event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(run())


def test_what_pynq_raises_is_raised() -> None:
    class Invalidated(StubInterrupt):
        async def wait(self) -> None:
            raise RuntimeError("Interrupt invalidated by Overlay change")

    async def run() -> None:
        with pytest.raises(RuntimeError, match="invalidated"):
            await device(Invalidated()).wait_async(10)

    asyncio.run(run())
