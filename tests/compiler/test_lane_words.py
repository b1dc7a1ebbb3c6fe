"""Words hold classes in as few words as each needs, and in few words altogether."""

from __future__ import annotations

import numpy as np

from pliant.compiler.lane_words import lane_words
from pliant.spec.memory import ceil_div


def test_a_class_fills_words_and_shares_one_for_what_is_left() -> None:
    classes = ["abcdefghij", "klm", "nopqr", "", "s"]
    assert ["".join(word) for word in lane_words(classes, 4)] == [
        "abcd", "efgh", "ijs", "klmr", "nopq"]


def test_every_class_has_the_fewest_words_it_can_have() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        lanes = int(rng.choice([4, 8, 16]))
        sizes = rng.integers(0, 3 * lanes, rng.integers(1, 9))
        classes = [[(number, item) for item in range(size)] for number, size in enumerate(sizes)]
        words = lane_words(classes, lanes)
        assert all(0 < len(word) <= lanes for word in words)
        items = [item for word in words for item in word]
        assert sorted(items) == [item for each in classes for item in each]
        for number, size in enumerate(sizes):
            holding = sum(any(owner == number for owner, _ in word) for word in words)
            assert holding == ceil_div(int(size), lanes)
        assert len(words) <= 2 * ceil_div(int(sizes.sum()), lanes)  # of two, one is half full
