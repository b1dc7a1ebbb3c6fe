"""Runs programs on the simulated RTL, as the driver does on a board."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import ISA_VERSION, AcceleratorConfig
from pliant.spec.decoding import decode_each
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    Instruction,
    InstructionError,
    Load,
    Matrix,
    Post,
    Store,
    Unit,
    disassemble,
)
from pliant.spec.program import Program
from pliant.spec.registers import (
    COUNTERS,
    IDENTIFIER,
    Control,
    Fault,
    FaultUnit,
    Interrupt,
    Status,
)
from pliant_sim.core import (
    Event,
    MemoryTiming,
    ProtocolError,
    RtlCore,
    RtlError,
    SimulationTimeout,
    Statistics,
)
from pliant_sim.image import MemoryImage

__all__ = ["Event", "HardwareFault", "MemoryTiming", "ProtocolError", "RtlCore", "RtlError",
           "RtlMachine", "RtlResult", "SimulationTimeout", "cycle_bound"]

_CHUNK = 1_000_000  # cycles between looks at signals such as Ctrl-C
_RESET_LIMIT = 100_000


class HardwareFault(RtlError):  # noqa: N818 - the field's word for it
    """The core stopped with a fault.

    Attributes
    ----------
    code, unit
        What happened, and in which unit.
    index : int
        Index of the instruction in the program.
    instruction : str
        Its disassembly, or its bytes if they are no instruction.
    layer : str or None
        Layer that the instruction belongs to.
    address : int
        Address of the access, 0 if none.
    """

    def __init__(self, program: Program, code: Fault, unit: FaultUnit, index: int,
                 address: int) -> None:
        self.code, self.unit, self.index, self.address = code, unit, index, address
        self.instruction = _describe(program, index)
        self.layer = layer_of(program, index)
        where = f"layer {self.layer!r}" if self.layer else "no layer"
        at = f", address {address:#x}" if address else ""
        super().__init__(
            f"hardware fault {code.name} in unit {unit.name} at instruction {index} ({where}){at}: "
            f"{self.instruction}; reset() the core before the next run"
        )


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


class RtlMachine:
    """The RTL with memory and a minimal driver; owns one :class:`pliant_sim.core.RtlCore`.

    Running one program again rewrites only the inputs. Machines share the compiled library and may
    run in different threads.

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
        self.core = RtlCore(config, timing=timing, source=source)
        self._image: MemoryImage | None = None
        self._runs = 0
        expected = {"identifier": IDENTIFIER, "version": ISA_VERSION,
                    "fingerprint": config.fingerprint}
        for name, value in expected.items():
            found = self.core.read_register(name)
            if found != value:
                raise RtlError(f"register {name!r} of the RTL reads {found:#x}, configuration "
                               f"{config.name!r} needs {value:#x}")

    def close(self) -> None:
        """Free the model."""
        self.core.close()

    def __enter__(self) -> RtlMachine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def image(self) -> MemoryImage:
        """Memory of the program that ran last; RtlError before the first run."""
        if self._image is None:
            raise RtlError("no program has been run yet")
        return self._image

    def load(self, program: Program) -> MemoryImage:
        """Place a program in memory and set the registers; does nothing if it is there."""
        if self._image is not None and self._image.program is program:
            return self._image
        image = MemoryImage(program, self.config)
        core = self.core
        core.set_memory(image.data, image.base)
        core.write_register("program_base", image.program_base)
        core.write_register("program_length", image.program_length)
        core.write_register("window_base", image.window[0])
        core.write_register("window_limit", image.window[1])
        for segment, address in enumerate(image.segment_bases):
            core.write_register(f"segment_{segment}", address)
        self._image = image
        return image

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
            It does not finish in `max_cycles` (by default :func:`cycle_bound`).
        ProtocolError
            It breaks a rule of AXI.
        """
        core = self.core
        if core.read_register("status") & (Status.FAULT | Status.RUNNING | Status.DRAINING):
            raise RtlError("the core has not finished its last run or stopped with a fault; "
                           "reset() it before the next")
        if len(inputs) != len(program.inputs):
            names = ", ".join(tensor.name for tensor in program.inputs)
            raise ValueError(f"program {program.network!r} has {len(program.inputs)} inputs "
                             f"({names}), found {len(inputs)}")
        image = self.load(program)
        self._runs += 1
        image.poison()
        for index, tensor in enumerate(inputs):
            image.write_input(index, tensor)
        core.write_register("interrupt_status", Interrupt.DONE | Interrupt.FAULT)
        core.write_register("interrupt_enable", Interrupt.DONE | Interrupt.FAULT)
        core.trace(2 * image.program_length + 16 if trace else 0)
        if max_cycles is None:
            max_cycles = cycle_bound(program, self.config, core.timing)
        before = core.statistics()
        core.write_register("control", Control.START)
        self._wait(program, max_cycles, before, progress)
        after = core.statistics()
        counters = {name: core.read_register(name) for name, _ in COUNTERS}
        return RtlResult(
            outputs=[image.read_tensor(info) for info in program.outputs],
            cycles=counters["cycles"], counters=counters,
            simulated_cycles=after.cycle - before.cycle,
            cpu_seconds=(after.cpu_nanoseconds - before.cpu_nanoseconds) * 1e-9,
            events=tuple(core.events()), _machine=self, _run=self._runs,
        )

    def _wait(
        self, program: Program, max_cycles: int, before: Statistics,
        progress: Callable[[int], None],
    ) -> None:
        left = max_cycles
        while not self.core.run(min(left, _CHUNK)):
            progress(sum(self.core.statistics().finished) - sum(before.finished))
            left -= _CHUNK
            if left <= 0:
                raise SimulationTimeout(
                    f"program {program.network!r} did not finish in {max_cycles} cycles; "
                    + _progress(program, before, self.core.statistics())
                )
        status = self.core.read_register("status")
        if status & Status.FAULT:
            read = self.core.read_register
            raise HardwareFault(program, Fault(read("fault_code")), FaultUnit(read("fault_unit")),
                                read("fault_instruction"), read("fault_address"))
        if status != Status.DONE:
            raise RtlError(f"interrupt raised with status {Status(status)!r}, expected DONE")

    def reset(self) -> None:
        """Soft reset through the control register; recovers from faults and timeouts.

        Raises
        ------
        SimulationTimeout
            Outstanding bursts are never answered, so the reset cannot complete.
        """
        self.core.write_register("control", Control.RESET)
        deadline = self.core.statistics().cycle + _RESET_LIMIT
        while self.core.read_register("status"):
            if self.core.statistics().cycle > deadline:
                raise SimulationTimeout(f"soft reset did not complete in {_RESET_LIMIT} cycles: "
                                        "the memory owes responses")

    def read_tensor(self, name: str, run: int | None = None) -> NDArray[np.int8]:
        """Return a tensor in memory by name; with `run`, only if that run was the last one."""
        if run is not None and run != self._runs:
            raise RtlError(f"tensor {name!r}: the machine has run again since; read tensors first")
        tensors = self.image.tensors()
        if name not in tensors:
            raise KeyError(f"no tensor is called {name!r}; in memory are {', '.join(tensors)} "
                           "(compile with keep_tensors for those between layers)")
        return self.image.read_tensor(tensors[name])


def cycle_bound(program: Program, config: AcceleratorConfig, timing: MemoryTiming) -> int:
    """Return a generous bound on the cycles of a program: four times all its work in series."""
    rate = min(timing.bytes_per_cycle or config.axi_data_bytes, config.axi_data_bytes)
    beat = config.axi_data_bytes / rate
    total = 100_000.0
    for item in _instructions(program):
        total += 200 + 2 * timing.latency + INSTRUCTION_BYTES / rate
        if isinstance(item, Load | Store):
            runs = item.runs * item.blocks
            # A run may be cut at every burst; a burst alone costs the latency at most.
            total += runs * item.run_beats * beat + runs * (timing.latency + 8)
            total += runs * item.run_beats / config.axi_burst_beats * timing.latency
        elif isinstance(item, Matrix):
            passes = item.groups * item.kernel_height * item.kernel_width
            total += passes * (2 * item.out_height * item.out_width + 4 * config.rows)
        elif isinstance(item, Post):
            window = item.kernel_height * item.kernel_width
            total += 4 * item.groups * item.out_height * item.out_width * window
    return int(total * (4 if timing.backpressure_seed is None else 32))


def layer_of(program: Program, index: int) -> str | None:
    """Return the name of the layer that instruction `index` belongs to."""
    layer = program.owners.get(index)
    return None if layer is None else layer.name


def unit_instructions(program: Program) -> dict[Unit, list[tuple[int, Instruction]]]:
    """Return the instructions of every unit, with their indices, in the order of execution."""
    found: dict[Unit, list[tuple[int, Instruction]]] = {unit: [] for unit in Unit}
    for index, instruction in enumerate(_instructions(program)):
        if instruction is not None and instruction.unit is not None:
            found[instruction.unit].append((index, instruction))
    return found


def _instructions(program: Program) -> list[Instruction | None]:
    """Decode a program that may hold bytes that are no instruction (None), as the core must."""
    try:
        return [*program.decoded()]
    except InstructionError:
        return [None if isinstance(found, InstructionError) else found
                for found in decode_each(program.instructions)]


def _describe(program: Program, index: int) -> str:
    instructions = _instructions(program)
    if index >= len(instructions):
        return "beyond the end of the program"
    instruction = instructions[index]
    if instruction is None:
        start = index * INSTRUCTION_BYTES
        return f"bytes {program.instructions[start:start + INSTRUCTION_BYTES].hex()}"
    return disassemble(instruction)


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
