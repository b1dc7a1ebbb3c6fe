"""Tells of the stages of a long run, and how many seconds each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from threadpoolctl import threadpool_limits

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""

REPETITIONS = 5
"""Runs after the first, of which the fastest counts: others were disturbed."""

Result = TypeVar("Result")


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


class Stopwatch:
    """Runs stages, tells of them and keeps how many seconds each took.

    Parameters
    ----------
    progress : Progress
        Told when a stage begins and ends.

    Attributes
    ----------
    seconds : dict
        Wall-clock seconds by stage.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    def time(self, stage: str, function: Callable[[], Result]) -> Result:
        """Return what `function` returns."""
        self._progress(stage, 0, 1)
        start = time.perf_counter()
        result = function()
        self.seconds[stage] = time.perf_counter() - start
        self._progress(stage, 1, 1)
        return result


def first_and_best_seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Return the processor's seconds of a first run, and of the fastest of REPETITIONS after it.

    On one core: NumPy's and PyTorch's threads are held back meanwhile. Other programs on the same
    cores then matter less than they do for wall-clock time.
    """
    found = []
    with threadpool_limits(limits=1):
        for _ in range(1 + REPETITIONS):
            start = time.process_time()
            function()
            found.append(time.process_time() - start)
    return found[0], min(found[1:])
