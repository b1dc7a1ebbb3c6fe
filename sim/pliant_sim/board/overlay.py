"""The files that ``pynq.Overlay`` loads: a stand-in .bit with its .hwh beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import DESIGN, Platform
from pliant_sim.board.bitstream import StandIn
from pliant_sim.board.handoff import handoff


def write_overlay(
    directory: Path, platform: Platform, config: AcceleratorConfig | None = None
) -> Path:
    """Write ``pliant.bit`` and ``pliant.hwh`` to a directory; return the path of the first.

    PYNQ keeps parsed metadata by a hash of the .bit alone, so that file names the other's digest.

    Parameters
    ----------
    directory : Path
        Created if it does not exist.
    platform : Platform
        Gives addresses and part.
    config : AcceleratorConfig or None
        None for what is built for the platform.
    """
    config = platform.config if config is None else config
    text = handoff(platform, config)
    stand_in = StandIn.of(platform, config, hashlib.sha256(text.encode()).hexdigest())
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{DESIGN}.bit"
    path.with_suffix(".hwh").write_text(text, encoding="utf-8")
    path.write_bytes(stand_in.to_bit(platform.part))
    return path
