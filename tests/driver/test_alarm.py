"""One timer limits many waits, each by its own time."""

from __future__ import annotations

import asyncio

import pytest

from pliant.driver.alarm import Alarm


def timers(loop: asyncio.AbstractEventLoop) -> int:
    return sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]


def alarm_of_this_task() -> Alarm:
    task = asyncio.current_task()
    assert task is not None
    return Alarm(task)


async def waits(seconds: float) -> bool:
    """Return whether a wait was let go on for a time."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        return False
    return True


@pytest.mark.parametrize("limits", [[0.02], [10, 0.02], [0.01, 10, 0.02], [0.02, 0.02]])
def test_the_wait_that_takes_too_long_is_cancelled(limits: list[float]) -> None:
    async def run() -> None:
        alarm = alarm_of_this_task()
        for limit in limits[:-1]:
            alarm.set(limit)
            assert await waits(0)
            alarm.stop()
            assert not alarm.rang
        start = asyncio.get_running_loop().time()
        alarm.set(limits[-1])
        assert not await waits(10)
        assert alarm.rang
        assert asyncio.get_running_loop().time() - start >= limits[-1]
        alarm.set(10)
        assert not alarm.rang
        assert await waits(0)
        alarm.close()

    asyncio.run(run())


def test_nothing_rings_between_waits_and_nothing_stays_behind() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        alarm = alarm_of_this_task()
        for _ in range(100):
            alarm.set(0.01)
            alarm.stop()
        assert timers(loop) == 1
        assert await waits(0.05)
        assert not alarm.rang
        alarm.set(10)
        alarm.close()
        assert timers(loop) == 0

    asyncio.run(run())
