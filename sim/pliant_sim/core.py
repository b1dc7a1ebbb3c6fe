"""The core's RTL, compiled by Verilator, with its registers, its clock and an AXI4 memory.

:mod:`pliant_sim.rtl` runs programs on it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cffi
import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Unit
from pliant.spec.registers import REGISTERS, Access
from pliant_hw import verilog
from pliant_sim import verilator
from pliant_sim.cache import cache_directory, kept
from pliant_sim.closing import Closing
from pliant_sim.hardware_version import HARDWARE_VERSION

_HERE = Path(__file__).parent
HARNESS = (_HERE / "harness.cpp", _HERE / "axi_memory.h")
WRAPPER = _HERE / "harness.v"
REGISTER_LIMIT = 10_000
"""Cycles after which an AXI4-Lite access counts as unanswered."""

_DECLARATIONS = """
typedef struct {
    uint64_t cycle, read_bursts, write_bursts, read_beats, write_beats;
    uint64_t started[4], finished[4];
    uint64_t cpu_nanoseconds;
} Statistics;
typedef struct Core Core;
Core* pliant_create(void);
void pliant_destroy(Core*);
void pliant_power_on(Core*);
void pliant_memory(Core*, uint8_t*, uint64_t base, uint64_t size);
void pliant_timing(Core*, uint32_t latency, double bytes_per_cycle, uint32_t outstanding,
                   int interleave);
void pliant_stalls(Core*, int enable, uint64_t seed);
void pliant_inject(Core*, int write, int response, int64_t burst, uint64_t low, uint64_t high);
void pliant_clear_faults(Core*);
void pliant_trace(Core*, uint64_t* events, uint64_t capacity);
uint64_t pliant_event_count(Core*);
int pliant_write(Core*, uint32_t address, uint32_t value, uint64_t limit);
int pliant_read(Core*, uint32_t address, uint32_t* value, uint64_t limit);
int pliant_run(Core*, uint64_t limit, int until_interrupt);
const char* pliant_violation(Core*);
void pliant_statistics(Core*, Statistics*);
"""
_INTERRUPT, _TIMEOUT, _VIOLATION = range(3)
_RESPONSES = {"SLVERR": 2, "DECERR": 3, "SILENCE": 4}

_LOG = logging.getLogger(__name__)


class RtlError(RuntimeError):
    """The simulated core misbehaves in a way that its registers do not report."""


class ProtocolError(RtlError):
    """The core broke a rule of AXI; names the cycle, the channel and the rule."""


class SimulationTimeout(RtlError):  # noqa: N818 - says what happened
    """The core did not finish within the allowed cycles."""


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """How the memory answers.

    Attributes
    ----------
    latency : int
        Cycles from the acceptance of a read address to its first beat, and from the last beat of a
        write to its response.
    bytes_per_cycle : float
        Bandwidth shared by reads and writes; 0 for no limit.
    outstanding : int
        Bursts accepted ahead of their data, in each direction: 1 to 64.
    interleave : bool
        Return beats of reads with different IDs in random order (AXI4, A5.3); else all reads are
        answered in the order of their addresses.
    backpressure_seed : int or None
        Stall every channel at random, reproducibly; None for no stalls.
    """

    latency: int = 80
    bytes_per_cycle: float = 16
    outstanding: int = 16
    interleave: bool = False
    backpressure_seed: int | None = None

    def __post_init__(self) -> None:
        if self.latency < 1 or self.bytes_per_cycle < 0 or not 1 <= self.outstanding <= 64:
            raise ValueError(f"{self}: latency must be 1 or more, bytes_per_cycle 0 or more, "
                             "outstanding 1 to 64")

    @classmethod
    def of_board(cls, config: AcceleratorConfig) -> MemoryTiming:
        """Return the memory of the board that `config` is made for."""
        return cls(latency=config.board.ddr_latency_cycles,
                   bytes_per_cycle=config.board.ddr_bytes_per_cycle)


@dataclass(frozen=True)
class Statistics:
    """What the harness counted since its creation; `started` and `finished` go by unit."""

    cycle: int
    read_bursts: int
    write_bursts: int
    read_beats: int
    write_beats: int
    started: tuple[int, ...]
    finished: tuple[int, ...]
    cpu_nanoseconds: int


@dataclass(frozen=True)
class Event:
    """`unit` started or, if `done`, completed its next instruction, `cycle` after trace()."""

    cycle: int
    unit: Unit
    done: bool


def core_verilog(config: AcceleratorConfig) -> str:
    """Return the Verilog of the accelerator, generated once for each configuration and source."""
    key = hashlib.sha256(f"{config.fingerprint:016x} {HARDWARE_VERSION}".encode()).hexdigest()
    path = cache_directory() / "verilog" / f"{config.name}-{key[:20]}.v"

    def make() -> bytes:
        _LOG.info("generating the Verilog of configuration %r, once for this content", config.name)
        return verilog.generate(config).encode()

    return kept(path, make).decode()


@functools.cache
def _load(library: Path) -> tuple[cffi.FFI, Any]:
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(str(library))


class RtlCore(Closing):
    """One instance of the core with its own memory; instances may run in different threads.

    Parameters
    ----------
    config : AcceleratorConfig
    timing : MemoryTiming or None
        None for that of the configuration's board.
    source : str or None
        Verilog of a module ``pliant_core`` to use instead of the generated one; its ports have the
        widths of `config`.

    Raises
    ------
    pliant_sim.verilator.VerilatorError
        The model cannot be built.
    """

    def __init__(
        self, config: AcceleratorConfig, *, timing: MemoryTiming | None = None,
        source: str | None = None,
    ) -> None:
        self.config = config
        self.timing = MemoryTiming.of_board(config) if timing is None else timing
        text = core_verilog(config) if source is None else source
        self.library = verilator.build(
            text + WRAPPER.read_text(), "pliant_harness", HARNESS,
            flags=(f"-GBYTES={config.axi_data_bytes}", f"-GADDRESS={config.axi_address_bits}"),
        )
        self._ffi, self._c = _load(self.library)
        self._core = self._c.pliant_create()
        # Called by close(), by garbage collection, or before the interpreter shuts down.
        self._free = weakref.finalize(self, self._c.pliant_destroy, self._core)
        self._memory: Any = None
        self._word = self._ffi.new("uint32_t*")
        self._events: NDArray[np.uint64] | None = None
        self._first_cycle = 0
        self.set_timing(self.timing)

    def close(self) -> None:
        """Free the model; using it afterwards is an error. Done by garbage collection as well."""
        self._free()
        self._core = None

    def set_timing(self, timing: MemoryTiming) -> None:
        """Change the memory's behaviour; not while a program runs."""
        self.timing = timing
        self._c.pliant_timing(self._core, timing.latency, timing.bytes_per_cycle,
                              timing.outstanding, timing.interleave)
        seed = timing.backpressure_seed
        self._c.pliant_stalls(self._core, seed is not None, 0 if seed is None else seed)

    def set_memory(self, data: NDArray[np.uint8], base: int) -> None:
        """Let the core's addresses from `base` on be the bytes of `data`, shared, not copied."""
        self._memory = self._ffi.from_buffer("uint8_t[]", data, require_writable=True)
        self._c.pliant_memory(self._core, self._memory, base, data.nbytes)

    def inject_fault(
        self,
        channel: Literal["read", "write"],
        response: Literal["SLVERR", "DECERR", "SILENCE"],
        *,
        burst: int | None = None,
        addresses: tuple[int, int] | None = None,
    ) -> None:
        """Make accesses fail: one burst counted from now, those in a range [low, high), or all.

        ``"SILENCE"`` leaves the burst, and all later ones, without an answer until
        :meth:`clear_faults`.
        """
        low, high = addresses or (0, 0)
        self._c.pliant_inject(self._core, channel == "write", _RESPONSES[response],
                              -1 if burst is None else burst, low, high)

    def clear_faults(self) -> None:
        """Heal the memory; bursts that were left without an answer get one."""
        self._c.pliant_clear_faults(self._core)

    def write_register(self, name: str, value: int) -> None:
        """Write a register by its name in :data:`pliant.spec.registers.REGISTERS`."""
        register = REGISTERS[name]
        if register.access is Access.READ_ONLY:
            raise ValueError(f"register {name!r} is read-only")
        if not 0 <= value < 1 << 32 * register.words:
            raise ValueError(f"register {name!r} = {value:#x} does not fit {register.words} words")
        for word in range(register.words):
            self.write_word(register.address + 4 * word, value >> 32 * word & 0xFFFF_FFFF)

    def read_register(self, name: str) -> int:
        """Read a register by its name."""
        register = REGISTERS[name]
        return sum(self.read_word(register.address + 4 * word) << 32 * word
                   for word in range(register.words))

    def write_word(self, address: int, value: int) -> None:
        """Write 32 bits at an address of the AXI4-Lite port."""
        status = self._c.pliant_write(self._core, address, value, REGISTER_LIMIT)
        self._check_access("write", address, status)

    def read_word(self, address: int) -> int:
        """Read 32 bits at an address of the AXI4-Lite port."""
        status = self._c.pliant_read(self._core, address, self._word, REGISTER_LIMIT)
        self._check_access("read", address, status)
        return int(self._word[0])

    def _check_access(self, kind: str, address: int, status: int) -> None:
        self._check_protocol()
        if status:
            name = next((register.name for register in REGISTERS.values()
                         if 0 <= address - register.address < 4 * register.words), hex(address))
            if status < 0:
                raise SimulationTimeout(f"{kind} of register {name!r}: no answer on AXI4-Lite "
                                        f"within {REGISTER_LIMIT} cycles")
            raise RtlError(f"{kind} of register {name!r}: AXI4-Lite response {status}")

    def _check_protocol(self) -> None:
        text = self._ffi.string(self._c.pliant_violation(self._core)).decode()
        if text:
            raise ProtocolError(f"AXI protocol violated, {text}")

    def run(self, cycles: int, *, until_interrupt: bool = True) -> bool:
        """Step the clock for up to `cycles`; return whether the interrupt is raised.

        Raises
        ------
        ProtocolError
            The core broke a rule of AXI; the core is of no use until :meth:`power_on`.
        """
        status = self._c.pliant_run(self._core, cycles, until_interrupt)
        if status == _VIOLATION:
            self._check_protocol()
        return bool(status == _INTERRUPT)

    def power_on(self) -> None:
        """Assert the hard reset; the memory forgets all bursts."""
        self._c.pliant_power_on(self._core)

    def trace(self, capacity: int) -> None:
        """Record up to `capacity` events from now on; 0 stops recording."""
        self._first_cycle = self.statistics().cycle
        self._events = np.zeros(capacity, np.uint64) if capacity else None
        pointer = (self._ffi.NULL if self._events is None
                   else self._ffi.from_buffer("uint64_t[]", self._events))
        self._c.pliant_trace(self._core, pointer, capacity)

    def events(self) -> Iterator[Event]:
        """Yield the recorded events in order; RtlError when more happened than fit."""
        if self._events is None:
            return
        count = self._c.pliant_event_count(self._core)
        if count > len(self._events):
            raise RtlError(f"{count} events happened, trace() left room for {len(self._events)}")
        for word in self._events[:count].tolist():
            yield Event((word >> 3) - self._first_cycle, Unit(word >> 1 & 3), bool(word & 1))

    def statistics(self) -> Statistics:
        """Return the harness's own counts."""
        raw = self._ffi.new("Statistics*")
        self._c.pliant_statistics(self._core, raw)
        return Statistics(
            raw.cycle, raw.read_bursts, raw.write_bursts, raw.read_beats, raw.write_beats,
            tuple(raw.started), tuple(raw.finished), raw.cpu_nanoseconds,
        )
