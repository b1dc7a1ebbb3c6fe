"""Delivers the virtual board's interrupt to PYNQ, in place of the kernel's UIO device."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from pliant_sim.board.board import Board

TURN_S = 0.02
"""How long the simulation keeps the event loop from others, at least one step: a turn of the loop
costs as much as a register access, and a picture on a screen lasts as long."""

STEP_CYCLES = 500
"""Cycles before the first look at the clock; twice as many before each further one, so that a turn
lasts at most twice as long as it should."""


class VirtualUio:
    """Does what ``pynq.uio.UioController`` does: tells waiting controllers of the interrupt.

    The event loop that waits runs the core, some milliseconds at a turn, until the interrupt is
    raised or the core is idle. Then it sleeps, until a register is written that may change that.
    Nothing runs on a thread of its own.

    Parameters
    ----------
    board : Board
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._waiting: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False
        board.on_access = self.wake

    def add_event(self, event: Any, number: int) -> None:
        """Tell `event`, an interrupt controller of PYNQ, of the next interrupt."""
        self._use_loop(asyncio.get_running_loop())
        self._waiting.append(event)
        self.wake()

    def wake(self) -> None:
        """Let the event loop look at the board, if anything waits for the interrupt."""
        if not self._waiting:
            return
        if not self._loop or not self._loop.is_running():
            # A wait whose loop ended stays registered in PYNQ; the next loop takes it over.
            with contextlib.suppress(RuntimeError):
                self._use_loop(asyncio.get_running_loop())
        if not self._scheduled and self._loop and not self._loop.is_closed():
            self._scheduled = True
            try:
                inside = asyncio.get_running_loop() is self._loop
            except RuntimeError:
                inside = False
            # Waking a loop through its pipe costs several times as much.
            (self._loop.call_soon if inside else self._loop.call_soon_threadsafe)(self._turn)

    def close(self) -> None:
        """Let everything that waits go on; its next access to the board says that it is closed."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release)

    def _use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            self._loop, self._scheduled = loop, False

    def _turn(self) -> None:
        self._scheduled = False
        try:
            deadline, cycles = time.monotonic() + TURN_S, STEP_CYCLES
            while not (raised := self._board.step(cycles)) and self._board.busy:
                if time.monotonic() > deadline:
                    break
                cycles *= 2
        except Exception:
            self._release()
            raise
        if raised:
            waiting, self._waiting = self._waiting, []
            for controller in waiting:
                controller.set()
        elif self._board.busy:
            self.wake()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for controller in waiting:
            for events in controller.wait_handles:
                for event in events:
                    event.set()
