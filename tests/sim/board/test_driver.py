"""pliant's own driver on unmodified PYNQ on the virtual board: digits, exactly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pynq import Overlay
from tests.sim.board.programs import CONFIG
from tests.sim.board.test_server import run_python

import pliant.driver.pynq
from pliant.compiler import compile_graph
from pliant.driver.faults import DeviceMemoryError, HardwareFault
from pliant.spec.platform import platform
from pliant.spec.program import Program
from pliant.spec.registers import Fault
from pliant_models import digits
from pliant_sim.board.board import CYCLES_PER_SECOND, Board
from pliant_sim.board.device import VirtualBoard
from pliant_sim.board.overlay import write_overlay
from pliant_sim.board.server import REMOTE_ACCESS_CYCLES, BoardServer
from pliant_sim.simulator import InstructionSimulator


@dataclass(frozen=True)
class Digits:
    """A compiled network, images, and what the instruction-level simulator makes of them."""

    program: Program
    images: NDArray[np.int8]
    expected: NDArray[np.int8]

    def require_exact(self, result: Any) -> None:
        assert np.array_equal(result.output, self.expected[:len(result.cycles)])


@pytest.fixture(scope="module")
def network() -> Digits:
    program = compile_graph(digits.graph(), CONFIG)
    images = digits.dataset()[1].images[:100]
    return Digits(program, images,
                  InstructionSimulator(CONFIG).run(program, [images]).outputs[0])


@pytest.fixture(autouse=True)
def _driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests bind other drivers to the core."""
    monkeypatch.setitem(pynq_drivers(), "pliant:ip:pliant_core:1.0",
                        pliant.driver.pynq.PliantDriver)


def pynq_drivers() -> dict[str, Any]:
    from pynq.overlay import _ip_drivers

    drivers: dict[str, Any] = _ip_drivers
    return drivers


def test_a_batch_runs_exactly_and_leaves_no_memory(
    device: VirtualBoard, overlay: Any, network: Digits
) -> None:
    assert isinstance(overlay.pliant_core_0, pliant.driver.pynq.PliantDriver)
    with overlay.pliant_core_0.accelerator() as accelerator:
        accelerator.load(network.program)
        assert device.hardware.memory.live
        before = device.hardware.core.statistics().cycle
        result = accelerator.run(network.images[:10])
        taken = device.hardware.core.statistics().cycle - before
        network.require_exact(result)
        assert sum(result.cycles) < taken < 1.1 * sum(result.cycles)
    assert not device.hardware.memory.live


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ultra96", "pynq_z2"])
def test_a_hundred_digits_run_exactly(name: str, network: Digits, tmp_path: Path) -> None:
    with VirtualBoard(platform(name), CONFIG) as device:
        overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
        with overlay.pliant_core_0.accelerator() as accelerator:
            accelerator.load(network.program)
            result = accelerator.run(network.images)
        assert len(result.cycles) == 100
        network.require_exact(result)


def test_an_asynchronous_run_awaits_the_interrupt(
    device: VirtualBoard, tmp_path: Path, network: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> None:
        overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
        with overlay.pliant_core_0.accelerator() as accelerator:
            monkeypatch.setattr(accelerator.device, "_raised", None)  # polling would fail
            accelerator.load(network.program)
            counting = asyncio.create_task(count())
            network.require_exact(await accelerator.run_async(network.images[:3]))
            counting.cancel()

    asyncio.run(run())
    assert turns > 5


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
def test_a_run_after_a_fault_is_exact(
    device: VirtualBoard, overlay: Any, network: Digits, response: Any
) -> None:
    with overlay.pliant_core_0.accelerator() as accelerator:
        accelerator.load(network.program)
        device.hardware.core.inject_fault("read", response, burst=3)
        with pytest.raises(HardwareFault) as caught:
            accelerator.run(network.images[0])
        assert caught.value.code == Fault.AXI_READ
        device.hardware.core.clear_faults()
        network.require_exact(accelerator.run(network.images[:1]))
    assert not device.hardware.memory.live


def test_memory_that_runs_out_names_the_sizes(tmp_path: Path, network: Digits) -> None:
    with VirtualBoard(platform("ultra96"), CONFIG, memory_bytes=8 << 10) as device:
        overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
        with overlay.pliant_core_0.accelerator() as accelerator:
            with pytest.raises(DeviceMemoryError, match="bytes are free"):
                accelerator.load(network.program)
            assert not device.hardware.memory.live


def test_the_driver_runs_over_the_stock_remote_client(tmp_path: Path, network: Digits) -> None:
    board = platform("ultra96")
    bitstream = write_overlay(tmp_path, board, CONFIG)
    program = tmp_path / "digits.pliant"
    network.program.save(program)
    np.save(tmp_path / "images.npy", network.images[:10])
    np.save(tmp_path / "expected.npy", network.expected[:10])
    served = Board(board, CONFIG, access_cycles=REMOTE_ACCESS_CYCLES)
    with BoardServer(served, port=0) as server:
        done = run_python(
            str(Path(__file__).with_name("driver_client.py")), str(bitstream), str(server.port),
            str(program), str(tmp_path / "images.npy"), str(tmp_path / "expected.npy"))
    assert (done.returncode, done.stdout.splitlines()) == (
        0, [f"limits for {CYCLES_PER_SECOND:.1f} cycles a second", "exact 10 images"]), done.stderr
    assert not served.memory.live
