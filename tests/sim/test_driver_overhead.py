"""What the driver costs beside the core: few register accesses, and figures that add up."""

from __future__ import annotations

import asyncio

import pytest

from pliant.spec.config import preset
from pliant.spec.platform import platform
from pliant_sim.driver_overhead import Overhead, on_virtual_board, on_virtual_device

CONFIG = preset("tiny")
IMAGES = 8


def check(found: Overhead) -> None:
    assert found.images == IMAGES
    # Two segments, start, completion; one more a batch, to see that the core is as it was left.
    assert found.driver_accesses == 4 * IMAGES + 1
    assert found.cycles < found.simulated_cycles < 1.05 * found.cycles
    assert 0 < found.simulation_seconds < found.seconds
    assert 0 < found.share < found.share_with_accesses < 0.5
    assert f"{found.share:.1%}" in found.text()


def test_the_virtual_device() -> None:
    found = on_virtual_device(CONFIG, IMAGES)
    check(found)
    assert found.controller_accesses == 0


def test_pynq_on_the_virtual_board() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        found = on_virtual_board(platform("ultra96"), CONFIG, IMAGES)
        check(found)
        # PYNQ's own: enable, master enable; pending, disable, acknowledge.
        assert found.controller_accesses == 5 * IMAGES
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_time_outside_of_the_simulation_is_the_drivers() -> None:
    found = Overhead(device="", images=2, seconds=2.0, simulation_seconds=1.5, cycles=100,
                     simulated_cycles=150, driver_accesses=8, controller_accesses=10)
    assert found.share == pytest.approx(0.25)
    assert found.share_with_accesses == pytest.approx(0.5)
    assert "9.00 register accesses an image: 4.00" in found.text()
