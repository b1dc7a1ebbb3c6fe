"""The core by its registers: identity, start, faults, counters, soft reset."""

from __future__ import annotations

from collections.abc import Callable

from pliant.driver.device import Device
from pliant.driver.faults import (
    HardwareFault,
    HardwareMismatchError,
    ResetTimeoutError,
)
from pliant.driver.manifest import Manifest
from pliant.spec.config import ISA_VERSION, PRESETS, AcceleratorConfig
from pliant.spec.isa import Unit
from pliant.spec.program import Program
from pliant.spec.registers import (
    COMPLETION_CYCLES_BITS,
    COMPLETION_CYCLES_OFFSET,
    COUNTER_BITS,
    COUNTERS,
    IDENTIFIER,
    REGISTERS,
    Access,
    Control,
    Fault,
    FaultUnit,
    Interrupt,
    Status,
)

RESET_LIMIT_CYCLES = 100_000
"""Cycles that outstanding bursts may take to drain; a burst takes hundreds."""

_WORD = 0xFFFF_FFFF
_CONTROL = REGISTERS["control"].address
_COMPLETION = REGISTERS["completion"].address
_SETTINGS = {
    name: tuple(range(register.address, register.address + 4 * register.words, 4))
    for name, register in REGISTERS.items() if register.access is Access.READ_WRITE
}
"""Addresses of the words of each configuration register."""

INTERRUPT_STATUS = REGISTERS["interrupt_status"].address
_START = int(Control.START)
EVENTS = int(Interrupt.DONE | Interrupt.FAULT)
_MOST_CYCLES = (1 << COMPLETION_CYCLES_BITS) - 1


class Core:
    """The registers of one core.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._written: dict[int, int] = {}

    def read(self, name: str) -> int:
        """Return a register by its name in :data:`pliant.spec.registers.REGISTERS`."""
        register = REGISTERS[name]
        return sum(self._device.read(register.address + 4 * word) << 32 * word
                   for word in range(register.words))

    def set(self, name: str, value: int) -> None:
        """Write a configuration register; the words it has already are not written again."""
        addresses = _SETTINGS.get(name)
        if addresses is None:
            raise ValueError(f"register {name!r} holds no setting")
        if not 0 <= value < 1 << 32 * len(addresses):
            raise ValueError(f"register {name!r} = {value:#x} does not fit {len(addresses)} words")
        for address in addresses:
            word, value = value & _WORD, value >> 32
            if self._written.get(address) != word:
                self._written.pop(address, None)  # unknown, should the write be interrupted
                self._device.write(address, word)
                self._written[address] = word

    def was_changed(self, name: str) -> bool:
        """Return whether the first word of a register is not what was written to it."""
        address = REGISTERS[name].address
        return self._written.get(address) != self._device.read(address)

    def forget(self) -> None:
        """Take no register for written any more."""
        self._written.clear()

    def identify(self, config: AcceleratorConfig) -> None:
        """Raise HardwareMismatchError unless the device has the core of `config`."""
        needed_by = f"configuration {config.name!r}"
        _require_release(self._device.read, needed_by)
        _require("fingerprint", self.read("fingerprint"), config.fingerprint, needed_by)

    def start(self) -> None:
        """Start the program."""
        self._device.write(_CONTROL, _START)

    def completion(self) -> tuple[int, int]:
        """Return the bits of `interrupt_status`, 0 while the program runs, and its cycles.

        One access, and two more for a run whose cycles do not fit into it.
        """
        found = self._device.read(_COMPLETION)
        events, cycles = found & EVENTS, found >> COMPLETION_CYCLES_OFFSET
        if events and cycles == _MOST_CYCLES:
            cycles = self.read("cycles")
        return events, cycles

    def status(self) -> Status:
        """Return the status bits."""
        return Status(self.read("status"))

    def counters(self) -> dict[str, int]:
        """Return every performance counter of the last run."""
        return {name: self.read(name) for name, _ in COUNTERS}

    def fault(self, program: Program) -> HardwareFault:
        """Return the fault that stopped the core."""
        return HardwareFault(program, Fault(self.read("fault_code")),
                             FaultUnit(self.read("fault_unit")), self.read("fault_instruction"),
                             self.read("fault_address"))

    def activity(self) -> dict[Unit, str]:
        """Return what each unit of a running core is doing, from two looks at the counters."""
        before, after = self.counters(), self.counters()
        moving = {name for name in before
                  if (after[name] - before[name]) % (1 << COUNTER_BITS)}
        found = {}
        for unit in Unit:
            prefix = unit.name.lower()
            waits = [name.removeprefix(f"{prefix}_wait_") for name, _ in COUNTERS
                     if name.startswith(f"{prefix}_wait_") and name in moving]
            if waits:
                found[unit] = f"waits for {' and '.join(waits)}"
            else:
                found[unit] = "works" if f"{prefix}_busy" in moving else "is idle"
        return found

    def reset(self) -> None:
        """Reset the core and wait until it is idle.

        Raises
        ------
        ResetTimeoutError
            Outstanding bursts are never answered, so the reset cannot complete.
        """
        self._device.write(_CONTROL, Control.RESET)
        step, limit = 16, RESET_LIMIT_CYCLES
        while self.read("status"):
            if limit <= 0:
                raise ResetTimeoutError(
                    f"soft reset did not complete in {RESET_LIMIT_CYCLES} cycles: the memory owes "
                    "responses; load the bitstream again")
            self._device.sleep(step / self._device.clock_hz)
            limit -= step
            step *= 2


def identify_configuration(
    read: Callable[[int], int], manifest: Manifest | None = None
) -> AcceleratorConfig:
    """Return the configuration of a core by its fingerprint: of the manifest, or a preset.

    Parameters
    ----------
    read : callable
        Returns the 32-bit register at a byte offset.
    manifest : Manifest or None
        If given, the core must have its configuration.

    Raises
    ------
    HardwareMismatchError
        There is no core of this release; it is not that of the manifest; or, without one, no
        preset.
    """
    _require_release(read, "this release of pliant")
    address = REGISTERS["fingerprint"].address
    found = read(address) | read(address + 4) << 32
    if manifest is not None:
        _require("fingerprint", found, manifest.config.fingerprint,
                 f"the manifest of {manifest.config.name!r}")
        return manifest.config
    for config in PRESETS.values():
        if config.fingerprint == found:
            return config
    raise HardwareMismatchError(
        f"the core's fingerprint is {found:016x}, which is no preset's ({', '.join(PRESETS)}); "
        "give the configuration it was built for, or the manifest of its bitstream")


_ADVICE = {
    "identifier": "this is no pliant core: check its address and that the bitstream is loaded",
    "version": "bitstream and software are of different releases of pliant: build one anew",
    "fingerprint": "load the bitstream that was built for it, or give the configuration that the "
                   "loaded one was built for",
}


def _require_release(read: Callable[[int], int], needed_by: str) -> None:
    for name, value in (("identifier", IDENTIFIER), ("version", ISA_VERSION)):
        _require(name, read(REGISTERS[name].address), value, needed_by)


def _require(name: str, found: int, value: int, needed_by: str) -> None:
    if found != value:
        raise HardwareMismatchError(f"register {name!r} of the core reads {found:#x}, {needed_by} "
                                    f"needs {value:#x}; {_ADVICE[name]}")
