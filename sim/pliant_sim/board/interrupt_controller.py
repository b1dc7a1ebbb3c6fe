"""A register model of AMD's AXI interrupt controller (product guide PG099) with one input."""

from __future__ import annotations

import enum

from pliant_sim.board.errors import BusError


class Offset(enum.IntEnum):
    """Registers that PYNQ uses; those of vectored and nested interrupts are not modelled."""

    ISR = 0x00
    """Status: set by the input, enabled or not, cleared by an acknowledgement only."""
    IPR = 0x04
    """Pending: status that is enabled."""
    IER = 0x08
    """Enable."""
    IAR = 0x0C
    """Writing 1 acknowledges: clears status, which a level that is still active sets again."""
    SIE = 0x10
    """Writing 1 sets enables."""
    CIE = 0x14
    """Writing 1 clears enables."""
    IVR = 0x18
    """Index of the first pending input, all ones if there is none."""
    MER = 0x1C
    """Bit 0: drive the output. Bit 1: let the input set status; stays set until reset."""


class InterruptController:
    """Input 0 to one output, which is high while active.

    Parameters
    ----------
    edge : bool
        True: the input sets status as it rises. What rises before bit 1 of MER is set is lost,
        since the guide does not say that it is kept. False: the input sets status while it is high.

    Attributes
    ----------
    input : bool
        Level that was sampled last.
    """

    def __init__(self, *, edge: bool) -> None:
        self._edge = edge
        self.reset()

    def reset(self) -> None:
        """Return every register to its initial value."""
        self._status = self._enable = 0
        self._output_enable = self._input_enable = False
        self.input = False

    @property
    def output(self) -> bool:
        """Level of the interrupt to the processing system."""
        return self._output_enable and bool(self._status & self._enable)

    def sample(self, level: bool) -> None:
        """Let the input have a level."""
        active = level and not (self._edge and self.input)
        self.input = level
        if active and self._input_enable:
            self._status = 1

    def read(self, offset: int) -> int:
        """Return a register."""
        pending = self._status & self._enable
        values = {
            Offset.ISR: self._status, Offset.IPR: pending, Offset.IER: self._enable,
            Offset.IAR: 0, Offset.SIE: 0, Offset.CIE: 0,
            Offset.IVR: 0 if pending else 0xFFFF_FFFF,
            Offset.MER: self._output_enable | self._input_enable << 1,
        }
        return int(values[_known(offset)])

    def write(self, offset: int, value: int) -> None:
        """Write a register; bits of inputs that there are not have no effect."""
        bit = value & 1
        match _known(offset):
            case Offset.ISR if not self._input_enable:
                self._status = bit
            case Offset.IER:
                self._enable = bit
            case Offset.IAR:
                self._status &= ~bit
            case Offset.SIE:
                self._enable |= bit
            case Offset.CIE:
                self._enable &= ~bit
            case Offset.MER:
                self._output_enable = bool(value & 1)
                self._input_enable |= bool(value & 2)
        self.sample(self.input)


def _known(offset: int) -> Offset:
    try:
        return Offset(offset)
    except ValueError:
        raise BusError(f"register {offset:#x} of the interrupt controller is not modelled") \
            from None
