"""Where tensors stand that stay on chip from stage to stage, and the room that they leave."""

from __future__ import annotations

from dataclasses import dataclass

from pliant.compiler.buffers import Slot


@dataclass(frozen=True)
class Resident:
    """A tensor that stays whole in the feature buffer during stages `first` to `last`."""

    slot: Slot
    first: int
    last: int


class Residents(dict[str, Resident]):
    """The resident tensors by name.

    Parameters
    ----------
    depth : int
        Bank addresses of the feature buffer.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self._depth = depth

    def live(self, stage: int) -> list[Slot]:
        """Return the slots that are taken during `stage`."""
        return [resident.slot for resident in self.values()
                if resident.first <= stage <= resident.last]

    def gap(self, stage: int, *more: Slot) -> tuple[int, int]:
        """Return the largest range of addresses that no resident takes, nor one of `more`."""
        taken = sorted([*self.live(stage), *more], key=lambda slot: slot.first)
        best, free = (0, 0), 0
        for slot in [*taken, Slot(self._depth, 0)]:
            best = max(best, (free, slot.first), key=lambda gap: gap[1] - gap[0])
            free = max(free, slot.first + slot.size)
        return best

    def place(self, size: int, first: int, last: int) -> Resident | None:
        """Return the free place that leaves the largest gaps to the stages; None if there is none.

        Only places at the ends of the buffer or beside a resident are tried.
        """
        stages = range(first, last + 1)
        others = [slot for stage in stages for slot in self.live(stage)]
        starts = {0, self._depth - size, *(slot.first + slot.size for slot in others),
                  *(slot.first - size for slot in others)}
        best: Slot | None = None
        most = -1
        for start in sorted(starts):
            slot = Slot(start, size)
            if (start < 0 or start + size > self._depth
                    or any(slot.overlaps(other) for other in others)):
                continue
            gaps = [self.gap(stage, slot) for stage in stages]
            room = min(end - begin for begin, end in gaps)
            if room > most:
                best, most = slot, room
        return None if best is None else Resident(best, first, last)
