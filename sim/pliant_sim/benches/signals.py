"""What the cocotb benches of single units share: ports, clock, seed, packing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from numpy.typing import NDArray


def generator() -> np.random.Generator:
    """Return random numbers from cocotb's seed, which is printed at the head of its log."""
    return np.random.default_rng(int(cocotb.RANDOM_SEED))


class Unit:
    """The ports of one unit in a cocotb handle of the design: ``unit.valid`` is an attribute.

    Parameters
    ----------
    dut : cocotb handle of the design
    name : str
        What its ports begin with.
    """

    def __init__(self, dut: Any, name: str) -> None:
        self._dut, self._prefix = dut, name

    def __getattr__(self, port: str) -> Any:
        return getattr(self._dut, f"{self._prefix}_{port}")

    def drive(self, **values: int) -> None:
        """Set input ports."""
        for port, value in values.items():
            getattr(self, port).value = value

    def read(self, port: str) -> int:
        """Return the value of a port as an unsigned number."""
        return int(getattr(self, port).value)

    async def start(self, **inputs: int) -> None:
        """Set inputs, start the clock, reset; return at a falling edge.

        Benches read and drive at falling edges: there, every simulator has settled.
        """
        self.drive(**inputs)
        self._dut.rst.value = 1
        Clock(self._dut.clk, 10, unit="ns").start()
        for _ in range(2):
            await self.tick()
        self._dut.rst.value = 0

    async def settle(self) -> None:
        """Let outputs follow the inputs that were set at this falling edge."""
        await Timer(1, "ns")

    async def tick(self) -> None:
        """Wait for the next falling edge."""
        await FallingEdge(self._dut.clk)


def pack(values: Sequence[int] | NDArray[Any], width: int) -> int:
    """Join numbers of `width` bits, the first in the lowest bits."""
    mask = (1 << width) - 1
    return sum((int(value) & mask) << (index * width) for index, value in enumerate(values))


def unpack(value: int, width: int, count: int, *, signed: bool) -> list[int]:
    """Undo :func:`pack`."""
    numbers = [value >> (index * width) & ((1 << width) - 1) for index in range(count)]
    if signed:
        numbers = [number - (number >> (width - 1) << width) for number in numbers]
    return numbers
