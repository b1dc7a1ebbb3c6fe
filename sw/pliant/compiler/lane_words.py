"""Puts channels into words so that those that are read together share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def lane_words(classes: Sequence[Sequence[Item]], lanes: int) -> list[list[Item]]:
    """Return the items of all classes in words of up to `lanes`.

    A class fills whole words; what is left of it stays together and may share a word with what is
    left of others (first fit, the longest first: Johnson et al., SIAM J. Comput. 3, 1974). So
    whoever reads one class reads as few words as it could, and all take few words. Words stand in
    the order of the classes.
    """
    remainders = {number: len(each) % lanes for number, each in enumerate(classes)
                  if len(each) % lanes}
    shared: list[list[Item]] = []
    place: dict[int, int] = {}
    for number in sorted(remainders, key=lambda number: -remainders[number]):
        size = remainders[number]
        fitting = (index for index, word in enumerate(shared) if len(word) + size <= lanes)
        index = next(fitting, len(shared))
        if index == len(shared):
            shared.append([])
        shared[index] += classes[number][-size:]
        place[number] = index
    words: list[list[Item]] = []
    for number, each in enumerate(classes):
        words += [list(each[start:start + lanes])
                  for start in range(0, len(each) - len(each) % lanes, lanes)]
        if number in place and shared[place[number]]:
            words.append(shared[place[number]].copy())
            shared[place[number]].clear()
    return words
