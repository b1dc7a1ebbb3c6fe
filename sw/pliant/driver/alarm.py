"""A time limit for the waits of a task, one after the other."""

from __future__ import annotations

import asyncio


class Alarm:
    """Cancels a task that waits too long, with one timer for all its waits.

    A timer for each would cost as much as a register access, and few are ever needed.

    Parameters
    ----------
    task : Task

    Attributes
    ----------
    rang : bool
        Whether it has cancelled the task since it was set.
    """

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.rang = False
        self._task = task
        self._loop = task.get_loop()
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Cancel the task when it has not said :meth:`stop` in time."""
        self.rang = False
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            self._start(self._deadline)

    def stop(self) -> None:
        """Let the task go on."""
        self._deadline = None

    def close(self) -> None:
        """Leave no timer in the event loop."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:  # it was set again meanwhile
            self._start(self._deadline)
        else:
            self.rang = True
            self._task.cancel()
