"""``pliant board``: the files of a virtual board's overlay, and a board for PYNQ.remote."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import PLATFORMS, Platform, PlatformError, platform, platforms_of
from pliant_sim.board.board import Board
from pliant_sim.board.overlay import write_overlay


@dataclass(frozen=True, kw_only=True)
class Written:
    """The files that ``pynq.Overlay`` loads, and the hardware they stand for."""

    platform: str
    config: str
    fingerprint: str
    bitstream: Path
    handoff: Path


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a server serves, and where; `page` is the address of the web page, if there is one."""

    platform: str
    family: str
    config: str
    fingerprint: str
    host: str
    port: int
    page: str | None


@dataclass(frozen=True, kw_only=True)
class Left:
    """What clients left behind when the server ended: buffers that were never freed."""

    buffers: int
    buffer_bytes: int


def platform_for(config: AcceleratorConfig, name: str | None) -> Platform:
    """Return the board called `name`; without a name, the first that `config` is built for.

    PlatformError if there is none.
    """
    if name is not None:
        return platform(name)
    found = platforms_of(config)
    if not found:
        raise PlatformError(f"no board is built with configuration {config.name!r}; give one with "
                            f"--platform: {', '.join(PLATFORMS)}")
    return found[0]


def overlay(config: AcceleratorConfig, platform: Platform, directory: Path) -> Written:
    """Write the stand-in for a bitstream and its hardware handoff to a directory."""
    path = write_overlay(directory, platform, config)
    return Written(platform=platform.name, config=config.name,
                   fingerprint=f"{config.fingerprint:016x}", bitstream=path,
                   handoff=path.with_suffix(".hwh"))


def serve(
    config: AcceleratorConfig, platform: Platform, *, host: str, port: int,
    web_port: int | None = None, announce: Callable[[Served], None],
) -> Left:
    """Serve a virtual board until SIGINT or SIGTERM.

    Parameters
    ----------
    config : AcceleratorConfig
        The hardware.
    platform : Platform
        The board that it is on.
    host, port
        Where to listen.
    web_port : int or None
        Where to serve a page on which digits are drawn, too; it has a core of its own.
    announce : callable
        Called when the server answers.
    """
    from pliant_sim.board.server import REMOTE_ACCESS_CYCLES, BoardServer

    board = Board(platform, config, access_cycles=REMOTE_ACCESS_CYCLES)
    ended = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: ended.set())
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with BoardServer(board, host=host, port=port) as server, contextlib.ExitStack() as stack:
            page = None
            if web_port is not None:
                from pliant_sim.web.classifier import DigitClassifier
                from pliant_sim.web.server import PageServer

                page = stack.enter_context(PageServer(
                    DigitClassifier(config), host=host, port=web_port)).address
            announce(Served(platform=platform.name, family=platform.family, config=config.name,
                            fingerprint=f"{config.fingerprint:016x}", host=host, port=server.port,
                            page=page))
            ended.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        board.close()
    return Left(buffers=len(board.memory.live), buffer_bytes=board.memory.live_bytes)
