"""The AXI4-Lite register map: control, status, faults and performance counters.

All registers are 32 bits wide at multiples of 4. A 64-bit value takes two, the low half first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

IDENTIFIER = int.from_bytes(b"PLNT", "little")
SEGMENTS = 4
COUNTER_BITS = 48
REGISTER_SPACE_BYTES = 1 << 12


class Access(enum.Enum):
    """Who may do what with a register."""

    READ_ONLY = "ro"
    READ_WRITE = "rw"
    WRITE_ONE = "w1"
    """Writing 1 to a bit acts (see the register); writing 0 does nothing."""


@dataclass(frozen=True)
class Register:
    """One 32-bit register, or a pair of them for 64-bit values."""

    name: str
    address: int
    access: Access
    words: int
    doc: str


class Control(enum.IntFlag):
    """Bits of `control`; they act when written as 1 and read as 0."""

    START = 1
    """Run the program; clears `interrupt_status`. Ignored unless the core is idle and not
    faulted."""
    RESET = 2
    """Soft reset: outstanding AXI bursts are drained, then every unit, the fault and the interrupt
    state return to their initial values; configuration registers keep theirs."""


class Status(enum.IntFlag):
    """Bits of `status`."""

    RUNNING = 1
    """A program is being executed."""
    DONE = 2
    """The last program reached its End; cleared by start and reset."""
    FAULT = 4
    """The core has stopped, see `fault_code`; only reset helps."""
    DRAINING = 8
    """A reset is waiting for outstanding AXI bursts."""


class Interrupt(enum.IntFlag):
    """Bits of `interrupt_enable` and `interrupt_status` (write 1 to clear)."""

    DONE = 1
    FAULT = 2


COMPLETION_CYCLES_OFFSET = max(Interrupt).bit_length()
COMPLETION_CYCLES_BITS = 32 - COMPLETION_CYCLES_OFFSET
"""Where `completion` has the cycles of the run; all ones stand for that many and more."""


class Fault(enum.IntEnum):
    """Values of `fault_code`. The first fault wins and stops the core."""

    NONE = 0
    ILLEGAL_INSTRUCTION = 1
    """Unknown opcode, non-zero unused bits, a field outside its range, or fields that disagree."""
    ADDRESS = 2
    """A DMA access outside [window_base, window_limit)."""
    AXI_READ = 3
    """A read answered with SLVERR or DECERR."""
    AXI_WRITE = 4
    """A write answered with SLVERR or DECERR."""
    WATCHDOG = 5
    """The program ran longer than `watchdog` cycles."""
    TOKEN_OVERFLOW = 6
    """More than 255 tokens pending between two units."""
    PROGRAM_END = 7
    """The program's `program_length` instructions hold no End."""


class FaultUnit(enum.IntEnum):
    """Values of `fault_unit`; the first four are those of :class:`pliant.spec.isa.Unit`."""

    LOAD = 0
    MATRIX = 1
    POST = 2
    STORE = 3
    FETCH = 4
    CONTROL = 5


COUNTERS: tuple[tuple[str, str], ...] = (
    ("cycles", "cycles from start to done"),
    ("load_busy", "load unit has an instruction"),
    ("load_wait_token", "next load waits for a token"),
    ("load_wait_memory", "load waits for read data"),
    ("load_wait_bank", "read data wait for a free feature bank"),
    ("matrix_busy", "matrix unit has an instruction"),
    ("matrix_active", "the array takes a word"),
    ("matrix_wait_token", "next matrix instruction waits for a token"),
    ("matrix_wait_weights", "a pass waits for its weights"),
    ("matrix_wait_bank", "the sampler waits for a feature bank"),
    ("post_busy", "post-processor has an instruction"),
    ("post_active", "a word enters the requantizer"),
    ("post_wait_token", "next post instruction waits for a token"),
    ("post_wait_bank", "post-processor waits for a feature bank"),
    ("store_busy", "store unit has an instruction"),
    ("store_wait_token", "next store waits for a token"),
    ("store_wait_memory", "store waits for the write channel or acknowledgements"),
    ("store_wait_bank", "store waits for a feature bank"),
    ("read_beats", "beats read from memory"),
    ("write_beats", "beats written to memory"),
)
"""Performance counters, 48 bits each, zeroed by start: name and what a cycle counts for."""

COUNTER_BASE = 0x100


def _map() -> tuple[Register, ...]:
    ro, rw, w1 = Access.READ_ONLY, Access.READ_WRITE, Access.WRITE_ONE
    registers = [
        Register("identifier", 0x00, ro, 1, 'bytes "PLNT"'),
        Register("version", 0x04, ro, 1, "version of the instruction set and register map"),
        Register("fingerprint", 0x08, ro, 2, "fingerprint of the configuration"),
        Register("control", 0x10, w1, 1, "bit 0 start, bit 1 soft reset"),
        Register("status", 0x14, ro, 1, "bit 0 running, 1 done, 2 fault, 3 draining"),
        Register("interrupt_enable", 0x18, rw, 1, "bit 0 done, bit 1 fault"),
        Register("interrupt_status", 0x1C, w1, 1, "bit 0 done, bit 1 fault; write 1 to clear"),
        Register("fault_code", 0x20, ro, 1, "why the core stopped"),
        Register("fault_unit", 0x24, ro, 1, "unit that reported the fault"),
        Register("fault_instruction", 0x28, ro, 1, "index of the faulting instruction"),
        Register("watchdog", 0x2C, rw, 1, "longest run in cycles; 0 for no limit"),
        Register("fault_address", 0x30, ro, 2, "address of the faulting access, 0 if none"),
        Register("program_base", 0x38, rw, 2, "address of the first instruction"),
        Register("program_length", 0x40, rw, 1, "instructions in the program"),
        Register("completion", 0x44, ro, 1,
                 "bit 0 done, bit 1 fault, as in interrupt_status; from bit 2 on the cycles of the "
                 "run, all ones if they do not fit"),
        Register("window_base", 0x48, rw, 2, "lowest address that DMA may touch"),
        Register("window_limit", 0x50, rw, 2, "first address above the window"),
    ]
    registers += [
        Register(f"segment_{index}", 0x60 + 8 * index, rw, 2, f"base address of segment {index}")
        for index in range(SEGMENTS)
    ]
    registers += [
        Register(name, COUNTER_BASE + 8 * index, ro, 2, doc)
        for index, (name, doc) in enumerate(COUNTERS)
    ]
    return tuple(registers)


REGISTERS: dict[str, Register] = {register.name: register for register in _map()}
