"""The core of a virtual board, as PYNQ gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynq import Overlay
from tests.driver.cases import CONFIG

from pliant.driver.pynq import PliantDriver
from pliant.spec.platform import CORE_VLNV, platform
from pliant_sim.board.device import VirtualBoard


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
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
    from pynq.overlay import _ip_drivers

    monkeypatch.setitem(_ip_drivers, CORE_VLNV, PliantDriver)  # other tests bind theirs
    overlay = Overlay(str(board.write_overlay(tmp_path)), device=board)
    found: PliantDriver = overlay.pliant_core_0
    return found
