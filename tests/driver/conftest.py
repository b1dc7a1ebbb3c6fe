"""The core of a virtual board, as PYNQ gives it; PYNQ is imported by the tests that want it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.driver.cases import CONFIG

from pliant.spec.platform import CORE_VLNV, platform

if TYPE_CHECKING:
    from pliant.driver.pynq import PliantDriver
    from pliant_sim.board.device import VirtualBoard


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    from pliant_sim.board.device import VirtualBoard

    with VirtualBoard(platform("ultra96"), CONFIG) as board:
        yield board
        assert not board.hardware.memory.live, "buffers were leaked"


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for PYNQ to listen in, as a fresh interpreter has."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def core(
    board: VirtualBoard, loop: asyncio.AbstractEventLoop, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PliantDriver:
    from pynq import Overlay
    from pynq.overlay import _ip_drivers

    from pliant.driver.pynq import PliantDriver

    monkeypatch.setitem(_ip_drivers, CORE_VLNV, PliantDriver)  # other tests bind theirs
    overlay = Overlay(str(board.write_overlay(tmp_path)), device=board)
    found: PliantDriver = overlay.pliant_core_0
    return found
