"""What can go wrong with a core, its memory and its programs: the driver's exceptions."""

from __future__ import annotations

from collections.abc import Mapping

from pliant.spec.decoding import decode_each
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    Instruction,
    InstructionError,
    Unit,
    disassemble,
)
from pliant.spec.program import Program, ProgramError
from pliant.spec.registers import Fault, FaultUnit, Status


class DriverError(RuntimeError):
    """Base of all that the driver raises about hardware."""


class HardwareMismatchError(DriverError):
    """What answers at the core's address is not the core that the driver was told of."""


class ProgramMismatchError(DriverError, ProgramError):
    """The program is compiled for another configuration than the core has."""


class DeviceMemoryError(DriverError):
    """The device has not enough memory for a program; nothing stays allocated."""


class MemoryCorruptedError(DriverError):
    """Instructions or constants in memory are not those that were loaded.

    Attributes
    ----------
    areas : mapping of str to int
        "instructions", "constants": the offset of the first byte that differs.
    """

    def __init__(self, network: str, areas: Mapping[str, int]) -> None:
        self.areas = dict(areas)
        found = " and ".join(f"{name} from byte {offset}" for name, offset in areas.items())
        super().__init__(f"program {network!r} in the device's memory has changed since it was "
                         f"loaded: {found} on; results are discarded")


class ResetTimeoutError(DriverError):
    """A soft reset did not complete: memory owes responses, so the core cannot be stopped."""


class LostInterruptError(DriverError):
    """The core has stopped, as its status says, but no interrupt came within the time limit.

    Attributes
    ----------
    status : Status
        DONE or FAULT.
    """

    def __init__(self, network: str, status: Status, seconds: float) -> None:
        self.status = status
        super().__init__(
            f"program {network!r}: no interrupt came within {seconds:.3g} s, though the core's "
            f"status is {_name(status)}; check that its pin 'irq' reaches the processor")


class RunTimeoutError(DriverError):
    """A program did not finish in time and the hardware's watchdog did not stop it.

    Attributes
    ----------
    units : mapping of Unit to str
        What each unit is doing, as far as the performance counters tell.
    """

    def __init__(self, network: str, seconds: float, units: Mapping[Unit, str]) -> None:
        self.units = dict(units)
        doing = "; ".join(f"{unit.name} {what}" for unit, what in units.items())
        super().__init__(f"program {network!r} did not finish in {seconds:.3g} s: {doing}")


class HardwareFault(DriverError):  # noqa: N818 - the field's word for it
    """The core stopped with a fault.

    Attributes
    ----------
    code, unit
        What happened, and in which unit.
    index : int
        Index of the instruction in the program; for the watchdog, the one decoded last.
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
            f"{self.instruction}"
        )


def layer_of(program: Program, index: int) -> str | None:
    """Return the name of the layer that instruction `index` belongs to."""
    layer = program.owners.get(index)
    return None if layer is None else layer.name


def tolerant_decode(program: Program) -> list[Instruction | None]:
    """Decode a program that may hold bytes that are no instruction (None), as the core must."""
    try:
        return [*program.decoded()]
    except InstructionError:
        return [None if isinstance(found, InstructionError) else found
                for found in decode_each(program.instructions)]


def unit_instructions(program: Program) -> dict[Unit, list[tuple[int, Instruction]]]:
    """Return the instructions of every unit, with their indices, in the order of execution."""
    found: dict[Unit, list[tuple[int, Instruction]]] = {unit: [] for unit in Unit}
    for index, instruction in enumerate(tolerant_decode(program)):
        if instruction is not None and instruction.unit is not None:
            found[instruction.unit].append((index, instruction))
    return found


def _describe(program: Program, index: int) -> str:
    instructions = tolerant_decode(program)
    if index >= len(instructions):
        return "beyond the end of the program"
    instruction = instructions[index]
    if instruction is None:
        start = index * INSTRUCTION_BYTES
        return f"bytes {program.instructions[start:start + INSTRUCTION_BYTES].hex()}"
    return disassemble(instruction)


def _name(status: Status) -> str:
    return " ".join(bit.name or "" for bit in Status if bit & status) or "idle"


def add_note(error: BaseException, text: str) -> None:
    """Add a line to what an exception prints; its own `add_note` came with Python 3.11."""
    notes = [*getattr(error, "__notes__", ()), text]
    error.__notes__ = notes  # type: ignore[attr-defined]
