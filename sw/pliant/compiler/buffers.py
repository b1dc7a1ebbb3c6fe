"""Places on chip: who may stand where in which buffer, and when.

Time is counted in steps of the program. Two buffers share addresses only if one's last step comes
before the other is loaded; within that order tokens keep the units apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pliant.spec.isa import Target

NEVER = -1


@dataclass(eq=False)
class Slot:
    """A fixed part of a layer's arena in the feature buffer; its buffers take turns."""

    first: int
    size: int
    last_step: int = NEVER
    occupant: Buffer | None = None

    def overlaps(self, other: Slot) -> bool:
        """Whether the two share addresses."""
        return self.first < other.first + other.size and other.first < self.first + self.size


@dataclass(eq=False)
class Buffer:
    """Something held on chip from its first load to `last_step`.

    `size` is in bank addresses, words, records or bytes, by `target`; `address` is None until it is
    allocated. Feature buffers stand at the start of their `slot`.
    """

    target: Target
    size: int
    slot: Slot | None = None
    last_step: int = NEVER
    address: int | None = None

    def used(self, step: int) -> None:
        """Note that `step` needs the buffer."""
        self.last_step = max(self.last_step, step)
        if self.slot is not None:
            self.slot.last_step = max(self.slot.last_step, step)


@dataclass
class Ring:
    """A buffer memory filled next-fit, so that the place freed longest ago is taken first."""

    depth: int
    next: int = 0
    held: list[Buffer] = field(default_factory=list)

    def allocate(self, buffer: Buffer, step: int) -> bool:
        """Give `buffer` an address clear of all that `step` or a later one needs, if there is."""
        self.held = [other for other in self.held if other.last_step >= step]
        for start in (self.next, 0):
            address = self._first_gap(start, buffer.size)
            if address is not None:
                buffer.address = address
                self.next = address + buffer.size
                self.held.append(buffer)
                return True
        return False

    def _first_gap(self, start: int, size: int) -> int | None:
        while start + size <= self.depth:
            ends = [b.address + b.size for b in self.held if b.address is not None
                    and b.address < start + size and start < b.address + b.size]
            if not ends:
                return start
            start = max(ends)
        return None


@dataclass(eq=False)
class Arena:
    """The part of the feature buffer that one layer uses, cut into slots."""

    slots: list[Slot]


def allocate_slot(buffer: Buffer, arenas: list[Arena], step: int) -> bool:
    """Put a feature buffer at the start of its slot unless `step` or a later one needs the place.

    `arenas` are those of the layers from the one that runs at `step` to the buffer's own: their
    slots stay reserved up to their last step, loaded or not.
    """
    slot = buffer.slot
    assert slot is not None
    assert buffer.size <= slot.size
    if slot.occupant is not None and slot.occupant.last_step >= step:
        return False
    for arena in arenas[:-1]:
        if any(other.last_step >= step and other.overlaps(slot) for other in arena.slots):
            return False
    slot.occupant = buffer
    buffer.address = slot.first
    return True
