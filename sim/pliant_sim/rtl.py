"""Runs programs on the simulated RTL: the driver on a virtual device, one image at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pliant.driver.accelerator import Accelerator
from pliant.driver.bounds import cycle_bound
from pliant.driver.faults import (
    DriverError,
    HardwareFault,
    LostInterruptError,
    ResetTimeoutError,
    RunTimeoutError,
    layer_of,
    unit_instructions,
)
from pliant.driver.image import MemoryImage
from pliant.spec.config import AcceleratorConfig
from pliant.spec.program import Program, ProgramError
from pliant_sim.closing import Closing
from pliant_sim.core import (
    Event,
    MemoryTiming,
    ProtocolError,
    RtlCore,
    RtlError,
    SimulationTimeout,
    Statistics,
)
from pliant_sim.virtual_device import VirtualDevice

__all__ = ["Event", "HardwareFault", "MemoryTiming", "ProtocolError", "RtlCore", "RtlError",
           "RtlMachine", "RtlResult", "SimulationTimeout"]

_STALLED = 8
"""How many times longer a program may take when all channels stall at random."""


@dataclass(frozen=True, kw_only=True)
class RtlResult:
    """One run.

    Attributes
    ----------
    outputs : list of int8 arrays (channels, height, width)
        In the order of the program's outputs.
    cycles : int
        From start to done, by the core's own counter.
    counters : dict
        Every performance counter of :data:`pliant.spec.registers.COUNTERS`.
    simulated_cycles : int
        Clock cycles stepped in the loop that waits for the interrupt.
    cpu_seconds : float
        Processor time of that loop.
    events : tuple of Event
        Starts and completions of instructions, if the run was traced.
    """

    outputs: list[NDArray[np.int8]]
    cycles: int
    counters: dict[str, int]
    simulated_cycles: int
    cpu_seconds: float
    events: tuple[Event, ...]
    _machine: RtlMachine = field(repr=False)
    _run: int = field(repr=False)

    def tensor(self, name: str) -> NDArray[np.int8]:
        """Return a tensor that the run left in memory, int8 (channels, height, width).

        Inputs, outputs and, in programs compiled with `keep_tensors`, every layer's result. To be
        called before the machine's next run; RtlError afterwards. KeyError lists the known names.
        """
        return self._machine.read_tensor(name, self._run)


class RtlMachine(Closing):
    """The driver on the RTL; what it leaves after a failure is there to be looked at.

    Running one program again rewrites only the inputs. Scratch and outputs are poisoned before
    every run. Machines share the compiled library and may run in different threads.

    Parameters
    ----------
    config : AcceleratorConfig
    timing : MemoryTiming or None
        None for the memory of the configuration's board.
    source : str or None
        Verilog to use instead of the generated one.

    Attributes
    ----------
    core : RtlCore
        Registers, faults to inject, timing.
    """

    def __init__(
        self, config: AcceleratorConfig, *, timing: MemoryTiming | None = None,
        source: str | None = None,
    ) -> None:
        self.config = config
        self._device = VirtualDevice.of(config, timing=timing, source=source)
        self.core = self._device.core
        self._runs = 0
        with _simulation_errors():
            self._accelerator = Accelerator(self._device, config, slots=1, recover=False,
                                            watchdog=False)

    def close(self) -> None:
        """Free the model."""
        self.core.close()

    @property
    def image(self) -> MemoryImage:
        """Memory of the program that ran last; RtlError before the first run."""
        if self._accelerator.program is None:
            raise RtlError("no program has been run yet")
        return self._accelerator.image

    def load(self, program: Program) -> MemoryImage:
        """Place a program in memory and set the registers; does nothing if it is there."""
        with _simulation_errors():
            self._accelerator.load(program)
        return self._accelerator.image

    def run(
        self, program: Program, inputs: Sequence[NDArray[np.int8]], *, trace: bool = False,
        max_cycles: int | None = None, progress: Callable[[int], None] = lambda finished: None,
    ) -> RtlResult:
        """Run a program on int8 inputs (channels, height, width).

        `progress` is told now and then how many instructions are completed.

        Raises
        ------
        pliant.spec.program.ProgramError
            The program is made for another configuration.
        ValueError
            Inputs do not match the program's.
        HardwareFault
            The core reports a fault.
        SimulationTimeout
            It does not finish in `max_cycles` (by default the driver's bound).
        ProtocolError
            It breaks a rule of AXI.
        RtlError
            It failed before and was not reset.
        """
        core = self.core
        self.load(program).poison()
        self._runs += 1
        limit = self._bound(program) if max_cycles is None else max_cycles
        self._accelerator.limit_cycles = limit
        core.trace(2 * self.image.program_length + 16 if trace else 0)
        finished = sum(core.statistics().finished)
        self._device.on_wait = lambda: progress(sum(core.statistics().finished) - finished)
        try:
            with _simulation_errors():
                result = self._accelerator.run(*inputs)
        except (RunTimeoutError, LostInterruptError):
            raise SimulationTimeout(
                f"program {program.network!r} did not finish in {limit} cycles; "
                + _progress(program, self._device.started, core.statistics())) from None
        before, after = self._device.started, core.statistics()
        return RtlResult(
            outputs=[*result.outputs.values()], cycles=result.cycles[0],
            counters=self._accelerator.core.counters(),
            simulated_cycles=after.cycle - before.cycle,
            cpu_seconds=(after.cpu_nanoseconds - before.cpu_nanoseconds) * 1e-9,
            events=tuple(core.events()), _machine=self, _run=self._runs,
        )

    def reset(self) -> None:
        """Soft reset through the control register; recovers from faults and timeouts.

        Raises
        ------
        SimulationTimeout
            Outstanding bursts are never answered, so the reset cannot complete.
        """
        try:
            self._accelerator.reset()
        except ResetTimeoutError as error:
            raise SimulationTimeout(str(error)) from None

    def read_tensor(self, name: str, run: int | None = None) -> NDArray[np.int8]:
        """Return a tensor in memory by name; with `run`, only if that run was the last one."""
        if run is not None and run != self._runs:
            raise RtlError(f"tensor {name!r}: the machine has run again since; read tensors first")
        tensors = self.image.tensors()
        if name not in tensors:
            raise KeyError(f"no tensor is called {name!r}; in memory are {', '.join(tensors)} "
                           "(compile with keep_tensors for those between layers)")
        return self.image.read_tensor(tensors[name])

    def _bound(self, program: Program) -> int:
        timing = self.core.timing
        bound = cycle_bound(program, self.config, latency=timing.latency,
                            bytes_per_cycle=timing.bytes_per_cycle)
        return bound if timing.backpressure_seed is None else bound * _STALLED


@contextmanager
def _simulation_errors() -> Iterator[None]:
    """Raise what the driver says of a core, other than faults and timeouts, as RtlError."""
    try:
        yield
    except (HardwareFault, RunTimeoutError, LostInterruptError, ProgramError):
        raise
    except DriverError as error:
        raise RtlError(str(error)) from error


def _progress(program: Program, before: Statistics, after: Statistics) -> str:
    parts = []
    for unit, items in unit_instructions(program).items():
        started = after.started[unit] - before.started[unit]
        finished = after.finished[unit] - before.finished[unit]
        text = f"{unit.name} completed {finished} of {len(items)}"
        if started < len(items) or finished < started:
            index = next(itertools.islice(items, finished, None), (0, None))[0]
            state = "runs" if started > finished else "waits for"
            text += f" and {state} {index} (layer {layer_of(program, index)!r})"
        parts.append(text)
    return "; ".join(parts)
