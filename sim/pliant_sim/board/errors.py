"""What goes wrong on a virtual board that would go wrong, or hang, on a board."""

from __future__ import annotations


class BoardError(RuntimeError):
    """The virtual board was used in a way that no board allows; says what to do instead."""


class BusError(BoardError):
    """An access to an address where nothing answers."""


class BitstreamError(BoardError):
    """A bitstream that is not for this virtual board."""
