"""When the interrupt comes, when it does not, and what waiting costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.sim.board.programs import ENABLE_DONE, Case, set_up, start
from tests.sim.board.test_device import place

from pliant.spec.registers import Interrupt
from pliant_sim.board import uio
from pliant_sim.board.device import VirtualBoard
from pliant_sim.board.errors import BoardError


@pytest.fixture
def core(device: VirtualBoard, overlay: Any, case: Case) -> Any:
    """The core with a program ready to start."""
    buffer, image = place(case, device)
    buffer.flush()
    core = overlay.pliant_core_0
    set_up(core.write, image)
    core.kept = buffer
    return core


def cycle(device: VirtualBoard) -> int:
    return device.hardware.core.statistics().cycle


async def fires(core: Any, seconds: float) -> bool:
    try:
        await asyncio.wait_for(core.irq.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def test_it_does_not_come_unless_it_is_enabled(device: VirtualBoard, core: Any) -> None:
    async def run() -> None:
        core.register_map.interrupt_enable = int(Interrupt.FAULT)
        start(core.write)
        assert not await fires(core, 1)
        assert core.register_map.status.DONE == 1, "time passed while waiting"
        core.register_map.interrupt_enable = ENABLE_DONE
        assert await fires(core, 10)

    asyncio.run(run())


def test_time_stands_still_while_the_core_is_idle(device: VirtualBoard, core: Any) -> None:
    async def run() -> None:
        core.register_map.interrupt_enable = ENABLE_DONE
        waiting = asyncio.create_task(core.irq.wait())
        await asyncio.sleep(0.05)
        before, cpu = cycle(device), time.process_time()
        await asyncio.sleep(0.3)
        assert cycle(device) == before
        assert time.process_time() - cpu < 0.1
        assert not waiting.done()
        start(core.write)
        await asyncio.wait_for(waiting, 60)
        assert core.register_map.status.DONE == 1

    asyncio.run(run())


def test_polling_costs_time_only_while_the_core_is_busy(
    device: VirtualBoard, core: Any
) -> None:
    for _ in range(10):
        core.read(0x14)
    before = cycle(device)
    core.read(0x14)
    assert cycle(device) - before < 20
    start(core.write)
    before = cycle(device)
    core.read(0x14)
    assert cycle(device) - before >= device.hardware.access_cycles


def test_the_interrupt_comes_no_earlier_than_the_end(device: VirtualBoard, core: Any) -> None:
    async def run() -> int:
        core.register_map.interrupt_enable = ENABLE_DONE
        before = cycle(device)
        start(core.write)
        await core.irq.wait()
        return cycle(device) - before

    taken = asyncio.run(run())
    needed = int(core.register_map.cycles_low)
    assert needed <= taken < needed + 100


def test_other_coroutines_run_while_one_waits(
    device: VirtualBoard, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uio, "STEP_CYCLES", 100)
    monkeypatch.setattr(uio, "TURN_S", 0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        counting = asyncio.create_task(count())
        core.register_map.interrupt_enable = ENABLE_DONE
        start(core.write)
        await core.irq.wait()
        counting.cancel()

    asyncio.run(run())
    assert turns > 10


def test_an_interrupt_that_stays_until_the_next_start_is_seen_once(
    device: VirtualBoard, core: Any
) -> None:
    async def run() -> None:
        core.register_map.interrupt_enable = ENABLE_DONE
        for _ in range(2):
            start(core.write)
            assert await fires(core, 60)
            assert int(core.register_map.interrupt_status) == Interrupt.DONE
            assert not await fires(core, 0.2)

    asyncio.run(run())


def test_closing_wakes_what_waits(device: VirtualBoard, core: Any) -> None:
    async def run() -> None:
        core.register_map.interrupt_enable = ENABLE_DONE
        waiting = asyncio.create_task(core.irq.wait())
        await asyncio.sleep(0.01)
        device.close()
        await asyncio.wait_for(waiting, 5)
        with pytest.raises(BoardError, match="closed"):
            core.read(0)

    asyncio.run(run())


def test_a_core_that_breaks_the_bus_wakes_what_waits(
    device: VirtualBoard, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        seen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: seen.append(context["exception"]))
        core.register_map.interrupt_enable = ENABLE_DONE
        start(core.write)
        monkeypatch.setattr(device.hardware, "step", broken)
        await asyncio.wait_for(core.irq.wait(), 5)
        assert [str(error) for error in seen] == ["broken"]

    def broken(cycles: int) -> bool:
        raise BoardError("broken")

    asyncio.run(run())


def test_a_wait_in_a_new_event_loop_works(device: VirtualBoard, core: Any) -> None:
    async def start_only() -> None:
        core.register_map.interrupt_enable = ENABLE_DONE
        start(core.write)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(core.irq.wait(), 0)

    asyncio.run(start_only())
    core.irq.event = asyncio.Event()  # PYNQ's own is bound to the first loop
    core.irq.waiting = False
    asyncio.run(asyncio.wait_for(core.irq.wait(), 60))
    assert core.register_map.status.DONE == 1
