"""How long a program may take: the watchdog and the driver's time limits follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from pliant.driver.core import RESET_LIMIT_CYCLES
from pliant.driver.device import Device
from pliant.driver.faults import tolerant_decode
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES, Load, Matrix, Post, Store
from pliant.spec.program import Program

_WATCHDOG_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class TimeLimit:
    """How long a run of one image may take.

    Attributes
    ----------
    watchdog : int
        What the hardware's watchdog is to be set to; 0 where it cannot count that far.
    seconds : float
        How long to wait for the interrupt.
    """

    watchdog: int
    seconds: float

    @classmethod
    def of(cls, cycles: int, device: Device, *, watchdog: bool) -> TimeLimit:
        """Return the limit for runs of `cycles`; ValueError unless these are 1 or more.

        With a `watchdog`, it stops the core before the time to wait is over.
        """
        if cycles < 1:  # 0 would switch the watchdog off
            raise ValueError(f"limit_cycles = {cycles!r} must be 1 or more, or None")
        waited = cycles + (RESET_LIMIT_CYCLES if watchdog else 0)
        return cls(watchdog=cycles if cycles <= _WATCHDOG_MAX else 0,
                   seconds=waited / device.clock_hz + device.interrupt_latency_s)


def cycle_bound(
    program: Program, config: AcceleratorConfig, *, latency: int | None = None,
    bytes_per_cycle: float | None = None, slack: int = 4,
) -> int:
    """Return a generous bound on the cycles of a program: `slack` times all its work in series.

    Parameters
    ----------
    program : Program
        May hold bytes that are no instruction.
    config : AcceleratorConfig
        What executes it.
    latency : int or None
        Cycles of the memory; None for those of the configuration's board.
    bytes_per_cycle : float or None
        Bandwidth of the memory, 0 for no limit; None for that of the configuration's board.
    slack : int
        Factor for what the sum of all work leaves out.
    """
    board = config.board
    latency = board.ddr_latency_cycles if latency is None else latency
    bandwidth = board.ddr_bytes_per_cycle if bytes_per_cycle is None else bytes_per_cycle
    rate = min(bandwidth or config.axi_data_bytes, config.axi_data_bytes)
    beat = config.axi_data_bytes / rate
    total = 100_000.0
    for item in tolerant_decode(program):
        total += 200 + 2 * latency + INSTRUCTION_BYTES / rate
        if isinstance(item, (Load, Store)):
            runs = item.runs * item.blocks
            # A run may be cut at every burst; a burst alone costs the latency at most.
            total += runs * item.run_beats * beat + runs * (latency + 8)
            total += runs * item.run_beats / config.axi_burst_beats * latency
        elif isinstance(item, Matrix):
            passes = item.groups * item.kernel_height * item.kernel_width
            total += passes * (2 * item.out_height * item.out_width + 4 * config.rows)
        elif isinstance(item, Post):
            window = item.kernel_height * item.kernel_width
            total += 4 * item.groups * item.out_height * item.out_width * window
    return int(total * slack)
