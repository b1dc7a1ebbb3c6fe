"""The board itself: who may access what when, from several threads, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from tests.sim.board.programs import CONFIG, ENABLE_DONE, Case, set_up, start

from pliant.spec.platform import platform
from pliant.spec.registers import REGISTERS, Control, Status
from pliant_sim.board.bitstream import StandIn
from pliant_sim.board.board import Board
from pliant_sim.board.errors import BoardError, BusError

BOARD = platform("kv260")
BASE = BOARD.core_address
STATUS = BASE + REGISTERS["status"].address


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(BOARD, CONFIG)
    board.load(StandIn.of(BOARD, CONFIG, ""))
    yield board
    board.close()


def started(board: Board, case: Case, *, wait_for_interrupt: bool = False) -> None:
    allocation = board.memory.allocate(case.size())
    image = case.image(allocation.address)
    board.memory.host_view(allocation)[:] = image.data
    board.memory.flush(allocation, 0, allocation.nbytes)
    set_up(lambda offset, value: board.write(BASE + offset, value), image)
    if wait_for_interrupt:
        board.write(BASE + REGISTERS["interrupt_enable"].address, ENABLE_DONE)
        board.write(BOARD.interrupt_address + 0x10, 1)
        board.write(BOARD.interrupt_address + 0x1C, 3)
    start(lambda offset, value: board.write(BASE + offset, value))


def test_steps_end_at_the_interrupt_or_when_the_core_is_idle(board: Board, case: Case) -> None:
    assert not board.step(10**9), "an idle core takes no time"
    started(board, case)
    assert board.busy
    assert not board.step(10**9)
    assert not board.busy
    assert board.read(STATUS) == Status.DONE
    board.write(BASE + REGISTERS["control"].address, int(Control.RESET))
    started(board, case, wait_for_interrupt=True)
    assert board.step(10**9)
    assert board.interrupt


def test_addresses_and_values_are_checked(board: Board) -> None:
    with pytest.raises(BusError, match="no multiple of 4"):
        board.read(BASE + 1)
    with pytest.raises(ValueError, match="does not fit 32 bits"):
        board.write(BASE, 1 << 32)
    with pytest.raises(BusError, match="nothing answers"):
        board.write(BASE - 4, 0)
    with pytest.raises(ValueError, match="access_cycles"):
        Board(BOARD, CONFIG, access_cycles=-1)


def test_threads_may_share_a_board(board: Board, case: Case) -> None:
    started(board, case)
    seen: list[int] = []

    def poll() -> None:
        while not board.read(STATUS) & Status.DONE:
            pass
        seen.extend(board.read(BASE) for _ in range(50))

    threads = [threading.Thread(target=poll) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 150
    assert len(set(seen)) == 1


def test_results_do_not_depend_on_what_an_access_costs(case: Case) -> None:
    for access_cycles in (0, 7, 100_000):
        board = Board(BOARD, CONFIG, access_cycles=access_cycles)
        board.load(StandIn.of(BOARD, CONFIG, ""))
        started(board, case)
        while not board.read(STATUS) & Status.DONE:
            pass
        (allocation,) = board.memory.live.values()
        board.memory.invalidate(allocation, 0, allocation.nbytes)
        case.require_exact(np.asarray(board.memory.host_view(allocation)))
        board.close()


def test_a_closed_board_answers_nothing(board: Board) -> None:
    board.close()
    for access in (lambda: board.read(STATUS), lambda: board.write(STATUS, 0),
                   lambda: board.step(1), lambda: board.load(StandIn.of(BOARD, CONFIG, ""))):
        with pytest.raises(BoardError, match="closed"):
            access()
