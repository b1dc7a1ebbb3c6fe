"""How long a program may take: the watchdog and the driver's time limits follow from it."""

from __future__ import annotations

from pliant.driver.faults import tolerant_decode
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES, Load, Matrix, Post, Store
from pliant.spec.program import Program


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
