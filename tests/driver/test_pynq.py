"""The driver through PYNQ on the virtual board: event loops, polling, accesses, lost interrupts."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from tests.driver.cases import CONFIG, Case, network_case

import pliant.driver.pynq
from pliant.driver.accelerator import Accelerator
from pliant.driver.faults import HardwareMismatchError, LostInterruptError
from pliant.driver.metered import MeteredDevice
from pliant.driver.pynq import PliantDriver
from pliant.spec.config import preset
from pliant.spec.registers import Status
from pliant_sim.board.device import VirtualBoard


@pytest.fixture
def case() -> Case:
    return network_case(0)


def test_the_core_is_found_by_its_fingerprint(core: PliantDriver) -> None:
    assert isinstance(core, pliant.driver.pynq.PliantDriver)
    with core.accelerator() as accelerator:
        assert accelerator.config == CONFIG
    with pytest.raises(HardwareMismatchError, match="'kv260' needs"):
        core.accelerator(preset("kv260"))


def test_batches_are_exact_with_few_accesses_by_the_driver(core: PliantDriver, case: Case) -> None:
    with core.accelerator() as plain:
        assert plain.device.has_interrupt  # type: ignore[attr-defined]
        assert core._loop is not None
        metered = MeteredDevice(plain.device)
        with Accelerator(metered, CONFIG) as accelerator:
            accelerator.load(case.program)
            case.run_exactly(accelerator, 4)
            before = metered.accesses
            case.run_exactly(accelerator, 4)
            assert metered.accesses - before == 4 * 4 + 1


def test_a_plain_run_within_a_running_loop_polls_as_a_notebook_needs(
    core: PliantDriver, case: Case
) -> None:
    async def cell() -> None:
        with core.accelerator() as accelerator:
            accelerator.load(case.program)
            case.run_exactly(accelerator, 2)
            assert case.is_exact(await accelerator.run_async(*case.inputs))
            case.run_exactly(accelerator, 2)

    asyncio.run(cell())


def test_waits_in_any_loop_and_in_none_may_follow_one_another(
    core: PliantDriver, case: Case
) -> None:
    with core.accelerator() as accelerator:
        accelerator.load(case.program)
        case.run_exactly(accelerator, 2)
        for _ in range(2):
            assert case.is_exact(asyncio.run(accelerator.run_async(*case.inputs)))
            case.run_exactly(accelerator, 3)


def test_an_interrupt_that_never_comes_is_reported_and_the_next_run_is_exact(
    core: PliantDriver, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.sleep(3600)

    with core.accelerator(clock_hz=1e6, interrupt_latency_s=5.0,
                          limit_cycles=50_000) as accelerator:
        accelerator.load(case.program)
        with monkeypatch.context() as context:
            context.setattr(core.irq, "wait", never)
            started = accelerator.core.start

            def start() -> None:
                """Start, and let the run end: time passes with accesses alone."""
                started()
                for _ in range(1000):
                    if not accelerator.core.status() & Status.RUNNING:
                        return

            context.setattr(accelerator.core, "start", start)
            with pytest.raises(LostInterruptError):
                accelerator.run(*case.inputs)
        case.run_exactly(accelerator, 2)


def test_ctrl_c_in_the_loop_leaves_nothing_behind(
    core: PliantDriver, case: Case, loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def press() -> None:
        raise KeyboardInterrupt

    with core.accelerator() as accelerator:
        accelerator.load(case.program)
        with monkeypatch.context() as context:
            context.setattr(core.irq, "wait", press)
            with pytest.raises(KeyboardInterrupt):
                accelerator.run(*case.inputs)
        assert accelerator.core.status() == 0
        assert not asyncio.all_tasks(loop)
        case.run_exactly(accelerator, 2)


def test_memory_is_flushed_and_invalidated(core: PliantDriver, board: VirtualBoard) -> None:
    with core.accelerator() as accelerator:
        buffer = accelerator.device.allocate(8192)
        start = buffer.address - board.hardware.memory.base
        memory = board.hardware.memory.device_bytes[start:start + 8192]
        buffer.array[:] = 7
        assert not (memory == 7).any()
        buffer.flush()
        assert (memory == 7).all()
        memory[:] = np.arange(8192, dtype=np.uint16).astype(np.uint8)
        buffer.invalidate()
        assert np.array_equal(buffer.array, memory)
        buffer.free()
        buffer.free()
