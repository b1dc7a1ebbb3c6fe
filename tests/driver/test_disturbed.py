"""The driver interrupted anywhere, used while it runs, and beside another driver of the core."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.driver.cases import CONFIG, MEMORY_BYTES, Case, layer_case, network_case

from pliant.driver.accelerator import Accelerator
from pliant.spec.registers import REGISTERS, Status
from pliant_sim.virtual_device import VirtualBuffer, VirtualDevice


class InterruptedBuffer(VirtualBuffer):
    """Its flushes and invalidations count as the device's operations."""

    operate: Callable[..., Any]

    def flush(self) -> None:
        self.operate(super().flush)

    def invalidate(self) -> None:
        self.operate(super().invalidate)


class InterruptedDevice(VirtualDevice):
    """Raises KeyboardInterrupt in chosen operations, after they were done.

    Attributes
    ----------
    left : list of int
        How many operations succeed before the next one that is interrupted, and so on.
    """

    left: list[int]

    def operate(self, function: Callable[..., Any], *arguments: Any) -> Any:
        value = function(*arguments)
        if self.left:
            self.left[0] -= 1
            if self.left[0] < 0:
                self.left.pop(0)
                raise KeyboardInterrupt
        return value

    def read(self, offset: int) -> int:
        return int(self.operate(super().read, offset))

    def write(self, offset: int, value: int) -> None:
        self.operate(super().write, offset, value)

    def wait(self, timeout_s: float) -> bool:
        return bool(self.operate(super().wait, timeout_s))

    def sleep(self, seconds: float) -> None:
        self.operate(super().sleep, seconds)

    def allocate(self, nbytes: int) -> VirtualBuffer:
        buffer = InterruptedBuffer(self.memory, self.memory.allocate(nbytes))
        buffer.operate = self.operate
        return buffer


@pytest.fixture
def device() -> Iterator[InterruptedDevice]:
    device = InterruptedDevice.of(CONFIG, memory_bytes=MEMORY_BYTES, coherent=False)
    device.left = []
    yield device
    assert not device.memory.live, "buffers were leaked"
    device.close()


@pytest.fixture
def case() -> Case:
    return layer_case(3)


def interrupted(device: InterruptedDevice, left: list[int], action: Callable[[], object]) -> bool:
    """Do something; return whether it was interrupted."""
    device.left = list(left)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        device.left = []
    return False


@pytest.mark.parametrize("again", [None, 0, 3, 9])
@pytest.mark.parametrize("what", ["run", "run_prefix"])
def test_runs_are_exact_after_an_interrupt_at_any_point_and_another_while_recovering(
    device: InterruptedDevice, case: Case, what: str, again: int | None
) -> None:
    with Accelerator(device, CONFIG, limit_cycles=50_000) as accelerator:
        accelerator.load(case.program)

        def act() -> None:
            if what == "run":
                accelerator.run(*(value[:3] for value in case.inputs))
            else:
                accelerator.run_prefix(1, *(value[:1] for value in case.inputs))

        for left in itertools.count():
            if not interrupted(device, [left] if again is None else [left, again], act):
                break
            # One image: what the slots hold must not matter.
            assert case.is_exact(accelerator.run(*(value[3:4] for value in case.inputs)), 3), left
        case.run_exactly(accelerator, 2)
        assert left > 5


def test_memory_is_given_back_after_an_interrupt_at_any_point_of_a_load(
    device: InterruptedDevice, case: Case
) -> None:
    other = network_case(1)
    with Accelerator(device, CONFIG) as accelerator:
        for left in itertools.count():
            accelerator.load(other.program)
            if not interrupted(device, [left], lambda: accelerator.load(case.program)):
                break
            assert not device.memory.live or accelerator.program is other.program
        assert left > 5
        case.run_exactly(accelerator, 2)


def test_a_prefix_that_failed_leaves_no_trace_though_nothing_was_recovered(
    device: InterruptedDevice, case: Case
) -> None:
    with Accelerator(device, CONFIG, recover=False) as accelerator:
        accelerator.load(case.program)
        for left in itertools.count():
            if not interrupted(device, [left], lambda: accelerator.run_prefix(1, *case.inputs)):
                break
            accelerator.reset()
            case.run_exactly(accelerator, 2)


def test_nothing_is_loaded_closed_or_reset_while_a_run_is_awaited(
    device: InterruptedDevice, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def later(timeout_s: float) -> bool:
        await asyncio.sleep(0)
        return device.wait(timeout_s)

    async def meddle() -> None:
        task = asyncio.create_task(accelerator.run_async(*case.inputs))
        await asyncio.sleep(0)
        assert accelerator.core.status() == Status.RUNNING
        for act in (accelerator.close, accelerator.reset,
                    lambda: accelerator.load(network_case(1).program)):
            with pytest.raises(RuntimeError, match="the core is running"):
                act()
        assert case.is_exact(await task)

    monkeypatch.setattr(device, "wait_async", later)
    with Accelerator(device, CONFIG) as accelerator:
        accelerator.load(case.program)
        asyncio.run(meddle())


def test_of_two_threads_one_runs_and_the_other_is_refused(
    device: InterruptedDevice, case: Case
) -> None:
    found: list[BaseException] = []

    def run_too() -> None:
        try:
            accelerator.run(*case.inputs)
        except RuntimeError as error:
            found.append(error)

    def beside() -> None:
        thread = threading.Thread(target=run_too)
        thread.start()
        thread.join()

    with Accelerator(device, CONFIG) as accelerator:
        accelerator.load(case.program)
        wait = device.wait

        def disturbed(timeout_s: float) -> bool:
            if not found:
                beside()
            return wait(timeout_s)

        device.wait = disturbed  # type: ignore[method-assign]
        case.run_exactly(accelerator, 3)
    assert [str(error) for error in found] == ["the core is running; one run at a time"]


def test_a_core_whose_registers_were_lost_is_set_up_again(
    device: InterruptedDevice, case: Case
) -> None:
    with Accelerator(device, CONFIG) as accelerator:
        accelerator.load(case.program)
        case.run_exactly(accelerator)
        for name in ("program_base", "window_limit", "segment_0", "interrupt_enable"):
            device.write(REGISTERS[name].address, 0)
        case.run_exactly(accelerator, 2)


def test_a_program_is_loaded_where_that_of_another_driver_was(
    device: InterruptedDevice, case: Case
) -> None:
    other = network_case(1)
    with Accelerator(device, CONFIG) as first, Accelerator(device, CONFIG) as second:
        first.load(case.program)
        base = first.image.program_base
        first.close()
        second.load(other.program)
        assert second.image.program_base == base
        other.run_exactly(second)
        second.close()
        first.load(case.program)
        assert first.image.program_base == base
        case.run_exactly(first, 2)
