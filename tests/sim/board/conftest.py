"""A virtual board that is small and quick, with its overlay loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynq import Overlay
from tests.sim.board.programs import CONFIG, Case, make_case

from pliant.spec.platform import platform
from pliant_sim.board.device import VirtualBoard


@pytest.fixture(scope="session")
def case() -> Case:
    return make_case(2000)


@pytest.fixture
def device() -> Iterator[VirtualBoard]:
    with VirtualBoard(platform("ultra96"), CONFIG) as device:
        yield device


@pytest.fixture
def overlay(device: VirtualBoard, tmp_path: Path) -> Any:
    return Overlay(str(device.write_overlay(tmp_path)), device=device)
