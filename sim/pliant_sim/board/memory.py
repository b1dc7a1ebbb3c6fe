"""The DDR of a virtual board, its allocator and the processor's cache in front of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant_sim.board.errors import BoardError

PAGE_BYTES = 4096
"""Alignment of every allocation: that of the kernel's contiguous memory."""

STALE = 0xDB
"""Byte that fills memory when it is allocated and when it is freed."""


@dataclass(frozen=True, eq=False)
class Allocation:
    """Bytes lent to a caller; `uncached` ones are the same array for processor and core."""

    address: int
    nbytes: int
    uncached: bool


class BoardMemory:
    """Contiguous memory that processor and core share, with a cache that is never coherent.

    The processor reads and writes one array, the core another. Bytes go from the first to the
    second by :meth:`flush` and back by :meth:`invalidate`, and in no other way: a program that
    forgets either reads stale bytes on every run, where a board fails now and then.

    Parameters
    ----------
    nbytes : int
        A multiple of 4 KiB.
    base : int
        Address of the first byte, a multiple of 4 KiB.
    coherent : bool
        Give every buffer uncached memory; :meth:`flush` and :meth:`invalidate` then do nothing.

    Attributes
    ----------
    device_bytes : uint8 array
        What the core reads and writes.
    live : dict
        Allocations that were not freed, by address.
    """

    def __init__(self, nbytes: int, *, base: int = 0x1000_0000, coherent: bool = False) -> None:
        if nbytes <= 0 or nbytes % PAGE_BYTES or base % PAGE_BYTES:
            raise ValueError(f"nbytes = {nbytes:#x} and base = {base:#x} must be multiples of "
                             f"{PAGE_BYTES}, nbytes above 0")
        self.base, self.nbytes, self.coherent = base, nbytes, coherent
        self.device_bytes: NDArray[np.uint8] = np.zeros(nbytes, np.uint8)
        self._host_bytes: NDArray[np.uint8] = np.zeros(0 if coherent else nbytes, np.uint8)
        self.live: dict[int, Allocation] = {}

    @property
    def live_bytes(self) -> int:
        """Bytes in allocations that were not freed."""
        return sum(allocation.nbytes for allocation in list(self.live.values()))

    def allocate(self, nbytes: int, *, uncached: bool = False) -> Allocation:
        """Return the first gap that holds `nbytes`.

        Raises
        ------
        MemoryError
            No gap is large enough; says how much is free and how large the largest gap is.
        """
        if nbytes <= 0:
            raise ValueError(f"nbytes = {nbytes}: allocate 1 byte or more")
        gaps = self._gaps()
        size = _pages(nbytes)
        for start, room in gaps:
            if size <= room:
                allocation = Allocation(start, nbytes, uncached or self.coherent)
                self.live[start] = allocation
                self._fill(allocation)
                return allocation
        rooms = [room for _, room in gaps]
        raise MemoryError(
            f"no room for {nbytes} bytes: {sum(rooms)} of {self.nbytes} bytes are free, the "
            f"largest gap has {max(rooms, default=0)}; {len(self.live)} buffers are live")

    def free(self, allocation: Allocation) -> None:
        """Take back an allocation; BoardError if it was freed before."""
        self._require_live(allocation)
        self._fill(allocation)
        del self.live[allocation.address]

    def host_view(self, allocation: Allocation) -> NDArray[np.uint8]:
        """Return the bytes of an allocation as the processor sees them, shared."""
        start = allocation.address - self.base
        array = self.device_bytes if allocation.uncached else self._host_bytes
        return array[start:start + allocation.nbytes]

    def flush(self, allocation: Allocation, offset: int, nbytes: int) -> None:
        """Make `nbytes` that the processor wrote visible to the core."""
        if not self._range(allocation, offset, nbytes).uncached:
            start = allocation.address - self.base + offset
            self.device_bytes[start:start + nbytes] = self._host_bytes[start:start + nbytes]

    def invalidate(self, allocation: Allocation, offset: int, nbytes: int) -> None:
        """Make `nbytes` that the core wrote visible to the processor."""
        if not self._range(allocation, offset, nbytes).uncached:
            start = allocation.address - self.base + offset
            self._host_bytes[start:start + nbytes] = self.device_bytes[start:start + nbytes]

    def _gaps(self) -> list[tuple[int, int]]:
        gaps, start = [], self.base
        # A copy: garbage collection may free a buffer meanwhile.
        for address, allocation in sorted(self.live.items()):
            if address > start:
                gaps.append((start, address - start))
            start = address + _pages(allocation.nbytes)
        end = self.base + self.nbytes
        return [*gaps, (start, end - start)] if end > start else gaps

    def _fill(self, allocation: Allocation) -> None:
        start = allocation.address - self.base
        for array in (self.device_bytes, self._host_bytes):
            array[start:start + allocation.nbytes] = STALE

    def _require_live(self, allocation: Allocation) -> None:
        if self.live.get(allocation.address) is not allocation:
            raise BoardError(f"the buffer of {allocation.nbytes} bytes at {allocation.address:#x} "
                             "was freed before")

    def _range(self, allocation: Allocation, offset: int, nbytes: int) -> Allocation:
        self._require_live(allocation)
        if offset < 0 or nbytes < 0 or offset + nbytes > allocation.nbytes:
            raise BoardError(
                f"bytes {offset} to {offset + nbytes} lie outside the buffer of "
                f"{allocation.nbytes} bytes at {allocation.address:#x}; an array computed from a "
                "buffer is no part of it")
        return allocation


def _pages(nbytes: int) -> int:
    return math.ceil(nbytes / PAGE_BYTES) * PAGE_BYTES
