"""One call around Amaranth's own simulator, for units too small to be worth compiling."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

from pliant.spec.isa import Instruction, fields

CLOCK_PERIOD = 1e-6
"""Seconds; as good as any other."""

Testbench = Callable[[Any], Coroutine[Any, Any, None]]


def simulate(
    module: Elaboratable,
    *testbenches: Testbench,
    background: Sequence[Testbench] = (),
    limit: int = 20_000,
) -> None:
    """Clock `module` until every testbench has returned; those in `background` need not.

    In each cycle those in `background` run first: models are up to date when a test looks at them.
    Raises AssertionError after `limit` cycles.
    """
    async def watchdog(ctx: Any) -> None:
        await ctx.delay(limit * CLOCK_PERIOD)
        raise AssertionError(f"the testbenches are not done after {limit} cycles")

    simulator: Any = Simulator(module)
    simulator.add_clock(CLOCK_PERIOD)
    for testbench in (*background, watchdog):
        simulator.add_testbench(testbench, background=True)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


def payload(instruction: Instruction, index: int = 0) -> dict[str, int]:
    """Return a decoded instruction as the value of its hardware layout."""
    names = [field.name for field in fields(type(instruction))]
    return {**{name: int(getattr(instruction, name)) for name in names}, "index": index}
