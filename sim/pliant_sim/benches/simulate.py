"""One call around Amaranth's own simulator, for units too small to be worth compiling."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

from pliant.spec.isa import Instruction, fields

Testbench = Callable[[Any], Coroutine[Any, Any, None]]


def simulate(
    module: Elaboratable, *testbenches: Testbench, background: Sequence[Testbench] = ()
) -> None:
    """Clock `module` until every testbench has returned; those in `background` need not."""
    simulator: Any = Simulator(module)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for testbench in background:
        simulator.add_testbench(testbench, background=True)
    simulator.run()


def payload(instruction: Instruction, index: int = 0) -> dict[str, int]:
    """Return a decoded instruction as the value of its hardware layout."""
    names = [field.name for field in fields(type(instruction))]
    return {**{name: int(getattr(instruction, name)) for name in names}, "index": index}
