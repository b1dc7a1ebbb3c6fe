"""Start, completion, faults, watchdog and reset of the core."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pliant.spec.config import PRESETS
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.control import CoreControl
from pliant_sim.benches.simulate import simulate

STATUS = ("running", "done", "fault", "draining", "halt")


class Control:
    """A core control and the simulation it lives in."""

    def __init__(self, ctx: Any, dut: Any) -> None:
        self.ctx, self.dut = ctx, dut

    async def pulse(self, name: str) -> None:
        self.ctx.set(getattr(self.dut, name), 1)
        await self.ctx.tick()
        self.ctx.set(getattr(self.dut, name), 0)

    async def start(self) -> None:
        await self.pulse("start")
        await self.ctx.tick().repeat(2)

    def report(self, name: str, code: Fault, unit: FaultUnit, index: int, address: int) -> None:
        port = getattr(self.dut, f"fault_{name}")
        for field, value in (("valid", 1), ("code", code), ("unit", unit), ("index", index),
                             ("address", address)):
            self.ctx.set(getattr(port, field), value)

    def withdraw(self, name: str) -> None:
        self.ctx.set(getattr(self.dut, f"fault_{name}").valid, 0)

    def get(self, name: str) -> int:
        return int(self.ctx.get(getattr(self.dut, name)))

    def status(self) -> set[str]:
        return {name for name in STATUS if self.get(name)}

    def latched(self) -> tuple[int, int, int, int]:
        return (self.get("code"), self.get("unit"), self.get("instruction"), self.get("address"))


def run(body: Callable[[Control], Coroutine[Any, Any, None]]) -> None:
    dut = CoreControl(config=PRESETS["tiny"], faults=["first", "second"])

    async def main(ctx: Any) -> None:
        ctx.set(dut.bus_idle, 1)
        await body(Control(ctx, dut))

    simulate(dut, main)


def test_start_resets_the_units_then_starts_them() -> None:
    async def body(control: Control) -> None:
        ctx = control.ctx
        assert control.status() == set()
        await control.pulse("start")
        assert (control.get("unit_reset"), control.get("unit_start")) == (1, 0)
        assert control.status() == {"running", "halt"}
        await ctx.tick()
        assert (control.get("unit_reset"), control.get("unit_start")) == (0, 1)
        assert control.status() == {"running"}
        for _ in range(5):
            await ctx.tick()
            assert (control.get("unit_reset"), control.get("unit_start")) == (0, 0)
        assert control.status() == {"running"}

    run(body)


def test_interrupts_are_cleared_by_a_reset_and_by_a_start_that_is_not_ignored() -> None:
    async def body(control: Control) -> None:
        ctx = control.ctx

        def clears(name: str) -> int:
            ctx.set(getattr(control.dut, name), 1)
            try:
                return control.get("interrupt_clear")
            finally:
                ctx.set(getattr(control.dut, name), 0)

        assert not control.get("interrupt_clear")
        assert clears("start")
        await control.start()
        assert not clears("start"), "a program runs"
        await control.pulse("end")
        assert not control.get("interrupt_clear")
        await ctx.tick()
        assert control.status() == {"done"}
        assert clears("start"), "even in the cycle of the event"
        await control.start()
        control.report("first", Fault.ADDRESS, FaultUnit.STORE, 8, 0x999)
        await ctx.tick()
        control.withdraw("first")
        assert control.status() == {"fault", "halt"}
        assert not clears("start"), "the fault is still to be reported"
        ctx.set(control.dut.bus_idle, 0)
        await control.pulse("reset")
        for _ in range(3):
            assert control.get("interrupt_clear")
            await ctx.tick()
        ctx.set(control.dut.bus_idle, 1)
        await ctx.tick().repeat(2)
        assert control.status() == set()
        assert not control.get("interrupt_clear")

    run(body)


def test_done_waits_for_the_bus_and_lasts_until_the_next_start() -> None:
    async def body(control: Control) -> None:
        ctx = control.ctx
        await control.start()
        ctx.set(control.dut.bus_idle, 0)
        await control.pulse("end")
        for _ in range(5):
            assert control.status() == {"running", "halt"}
            assert not control.get("done_event")
            await ctx.tick()
        ctx.set(control.dut.bus_idle, 1)
        await ctx.tick()
        assert control.status() == {"done"}
        assert control.get("done_event")
        await ctx.tick()
        assert not control.get("done_event")
        await control.start()
        assert control.status() == {"running"}

    run(body)


def test_the_first_fault_wins_and_only_reset_helps() -> None:
    async def body(control: Control) -> None:
        ctx = control.ctx
        await control.start()
        control.report("second", Fault.AXI_READ, FaultUnit.LOAD, 7, 0x123456)
        await ctx.tick()
        assert control.status() == {"fault", "halt"}
        assert control.get("fault_event")
        control.report("first", Fault.ADDRESS, FaultUnit.STORE, 8, 0x999)
        await ctx.tick()
        assert not control.get("fault_event")
        await control.start()
        await control.pulse("end")
        assert control.status() == {"fault", "halt"}
        assert control.latched() == (Fault.AXI_READ, FaultUnit.LOAD, 7, 0x123456)
        control.withdraw("first")
        control.withdraw("second")
        await control.pulse("reset")
        for _ in range(2):
            assert control.status() == {"fault", "draining", "halt"}
            await ctx.tick()
        assert control.status() == set()
        assert control.latched() == (0, 0, 0, 0)
        await control.start()
        assert control.status() == {"running"}

    run(body)


def test_of_simultaneous_faults_the_first_name_wins_and_beats_end_and_watchdog() -> None:
    async def body(control: Control) -> None:
        control.ctx.set(control.dut.watchdog, 1)
        await control.start()
        await control.ctx.tick()
        control.report("first", Fault.ADDRESS, FaultUnit.STORE, 8, 0x999)
        control.report("second", Fault.AXI_READ, FaultUnit.LOAD, 7, 0x123456)
        await control.pulse("end")
        assert control.status() == {"fault", "halt"}
        assert control.latched() == (Fault.ADDRESS, FaultUnit.STORE, 8, 0x999)

    run(body)


@pytest.mark.parametrize("limit", [0, 1, 20])
def test_the_watchdog_stops_a_run_that_is_longer_than_its_limit(limit: int) -> None:
    async def body(control: Control) -> None:
        ctx = control.ctx
        ctx.set(control.dut.watchdog, limit)
        ctx.set(control.dut.index, 5)
        for _ in range(2):  # the count starts again with each run
            await control.start()
            for _ in range(limit or 50):
                await ctx.tick()
                assert control.status() == {"running"}
            await ctx.tick()
            assert control.status() == ({"fault", "halt"} if limit else {"running"})
            if limit:
                assert control.latched() == (Fault.WATCHDOG, FaultUnit.CONTROL, 5, 0)
            await control.pulse("reset")
            await ctx.tick().repeat(2)

    run(body)


@pytest.mark.parametrize("state", ["idle", "running", "finishing", "fault"])
def test_reset_waits_for_the_bus_then_resets_the_units_once(state: str) -> None:
    async def body(control: Control) -> None:
        ctx = control.ctx
        if state != "idle":
            await control.start()
        ctx.set(control.dut.bus_idle, 0)
        if state == "finishing":
            await control.pulse("end")
        if state == "fault":
            control.report("first", Fault.ADDRESS, FaultUnit.STORE, 8, 0x999)
            await ctx.tick()
            control.withdraw("first")
            await ctx.tick()
        await control.pulse("reset")
        for _ in range(4):
            assert {"draining", "halt"} <= control.status() <= {"draining", "halt", "fault"}
            assert not control.get("unit_reset")
            assert not control.get("done_event")
            assert not control.get("fault_event")
            await ctx.tick()
        ctx.set(control.dut.bus_idle, 1)
        await ctx.tick()
        assert control.get("unit_reset")
        assert {"draining", "halt"} <= control.status()
        await ctx.tick()
        assert control.status() == set()
        assert not control.get("unit_reset")

    run(body)


def test_a_reset_that_coincides_with_completion_leaves_no_event() -> None:
    async def body(control: Control) -> None:
        await control.start()
        await control.pulse("end")
        await control.pulse("reset")
        assert not control.get("done_event")
        await control.ctx.tick().repeat(2)
        assert control.status() == set()

    run(body)
