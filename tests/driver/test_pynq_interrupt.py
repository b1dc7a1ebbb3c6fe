"""No interrupt is lost between core, interrupt controller and PYNQ, and no old one does harm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.driver.cases import Case, network_case

from pliant.driver.accelerator import Accelerator
from pliant.driver.faults import HardwareFault, LostInterruptError
from pliant.driver.metered import MeteredDevice
from pliant.driver.pynq import PliantDriver
from pliant.spec.registers import Status
from pliant_sim.board.device import VirtualBoard
from pliant_sim.board.interrupt_controller import InterruptController, Offset


@pytest.fixture
def case() -> Case:
    return network_case(0)


@pytest.fixture
def accelerator(core: PliantDriver, case: Case) -> Iterator[Accelerator]:
    with core.accelerator(clock_hz=1e6, interrupt_latency_s=5.0) as accelerator:
        accelerator.load(case.program)
        yield accelerator


def end_before_the_wait(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run end before it is waited for: time passes with accesses."""
    started = accelerator.core.start

    def start() -> None:
        started()
        while accelerator.core.status() & Status.RUNNING:
            pass

    monkeypatch.setattr(accelerator.core, "start", start)


def controller_status(board: VirtualBoard) -> int:
    return board.hardware.read(board.hardware.platform.interrupt_address + Offset.ISR)


def test_runs_that_end_before_the_wait_begins_are_seen(
    accelerator: Accelerator, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_before_the_wait(accelerator, monkeypatch)
    case.run_exactly(accelerator, 3)
    case.run_exactly(accelerator, 1)


def test_the_first_would_not_be_seen_if_the_driver_did_not_listen(
    core: PliantDriver, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with core.accelerator(clock_hz=1e6, interrupt_latency_s=2.0,
                          limit_cycles=50_000) as accelerator:
        monkeypatch.setattr(accelerator.device, "listen", lambda: None)
        accelerator.load(case.program)
        with monkeypatch.context() as context:
            end_before_the_wait(accelerator, context)
            with pytest.raises(LostInterruptError):
                accelerator.run(*case.inputs)
        case.run_exactly(accelerator, 2)


def test_a_bitstream_that_is_loaded_again_is_listened_to_again(
    accelerator: Accelerator, board: VirtualBoard, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.run_exactly(accelerator, 2)
    end_before_the_wait(accelerator, monkeypatch)
    for _ in range(2):
        loaded = board.hardware.loaded
        assert loaded is not None
        board.hardware.load(loaded)
        case.run_exactly(accelerator, 2)


def test_one_that_nobody_waited_for_delays_the_next_run_alone(
    accelerator: Accelerator, board: VirtualBoard, case: Case
) -> None:
    async def polled() -> None:
        case.run_exactly(accelerator, 2)

    for _ in range(2):
        asyncio.run(polled())  # another loop: PYNQ's is not used
        assert controller_status(board) == 1
        case.run_exactly(accelerator, 3)
        assert controller_status(board) == 0


def test_drivers_that_take_turns_see_their_own(
    accelerator: Accelerator, core: PliantDriver, case: Case
) -> None:
    other = network_case(1)
    with core.accelerator() as second:
        second.load(other.program)
        for _ in range(3):
            case.run_exactly(accelerator, 2)
            other.run_exactly(second, 1)


def test_runs_after_a_fault_a_reset_and_a_cancelled_wait_are_exact(
    accelerator: Accelerator, board: VirtualBoard, loop: asyncio.AbstractEventLoop, case: Case
) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(accelerator.run_async(*case.inputs))
        await asyncio.sleep(0)
        assert accelerator.core.status() == Status.RUNNING
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(2):
        board.hardware.core.inject_fault("write", "SLVERR", burst=0)
        with pytest.raises(HardwareFault):
            accelerator.run(*case.inputs)
        board.hardware.core.clear_faults()
        case.run_exactly(accelerator, 2)
        accelerator.reset()
        case.run_exactly(accelerator, 2)
        loop.run_until_complete(cancelled())
        case.run_exactly(accelerator, 2)


@pytest.mark.parametrize(("edge", "waits"), [(True, 1), (False, 2)])
def test_a_controller_of_levels_works_with_one_false_alarm_a_wait(
    core: PliantDriver, board: VirtualBoard, case: Case, edge: bool, waits: int
) -> None:
    """As in somebody's own block design: PYNQ acknowledges while the level is still high."""
    board.hardware._interrupts = InterruptController(edge=edge)
    with core.accelerator() as plain:
        metered = MeteredDevice(plain.device)
        with Accelerator(metered, plain.config) as accelerator:
            accelerator.load(case.program)
            case.run_exactly(accelerator, 1)
            before = metered.waits
            case.run_exactly(accelerator, 4)
            assert metered.waits - before == 4 * waits
