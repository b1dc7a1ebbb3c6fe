"""Unmodified PYNQ on the virtual board: overlays, registers, buffers and whole programs."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pynq.overlay
import pytest
from pynq import MMIO, Clocks, DefaultIP, Device, Overlay, allocate
from tests.sim.board.programs import CONFIG, ENABLE_DONE, Case, set_up, start

from pliant.driver.image import BlockImage
from pliant.spec.config import ISA_VERSION, preset
from pliant.spec.platform import CORE_INSTANCE, CORE_VLNV, PLATFORMS, platform
from pliant.spec.registers import IDENTIFIER, Interrupt, Status
from pliant_sim.board.clocks import fabric_clock
from pliant_sim.board.device import VirtualBoard
from pliant_sim.board.errors import BitstreamError, BoardError, BusError
from pliant_sim.board.memory import PAGE_BYTES


def place(case: Case, device: VirtualBoard) -> tuple[Any, BlockImage]:
    """Allocate memory for a program and fill it; it is not flushed."""
    buffer = allocate(case.size(), "u1", target=device)
    image = case.image(buffer.device_address)
    buffer[:] = image.data
    return buffer, image


async def run(core: Any, image: BlockImage) -> None:
    """Run a program and wait for its interrupt."""
    registers = core.register_map
    set_up(core.write, image)
    registers.interrupt_enable = ENABLE_DONE
    start(core.write)
    while not int(registers.interrupt_status):
        await core.irq.wait()
    registers.interrupt_status = ENABLE_DONE


@pytest.mark.parametrize("name", PLATFORMS)
def test_overlays_load_for_every_platform(name: str, tmp_path: Path) -> None:
    board = platform(name)
    with VirtualBoard(board, CONFIG) as device:
        overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
        assert overlay.is_loaded()
        assert overlay.ip_dict[CORE_INSTANCE]["phys_addr"] == board.core_address
        assert overlay.ip_dict[CORE_INSTANCE]["type"] == CORE_VLNV
        registers = overlay.pliant_core_0.register_map
        assert int(registers.identifier) == IDENTIFIER
        assert int(registers.version) == ISA_VERSION
        assert int(registers.fingerprint_high) << 32 | int(registers.fingerprint_low) \
            == CONFIG.fingerprint
        with pytest.raises(AttributeError):
            registers.identifier = 1


@pytest.mark.parametrize("name", ["ultra96", "pynq_z2"])
def test_pynq_sets_and_reads_the_clock_of_the_design(name: str, tmp_path: Path) -> None:
    board = platform(name)
    with VirtualBoard(board, CONFIG) as device:
        Overlay(str(device.write_overlay(tmp_path)), device=device)
        expected = fabric_clock(board.family, CONFIG.board.clock_mhz).mhz
        assert Clocks.fclk0_mhz == pytest.approx(expected, abs=1e-5)
        Clocks.fclk0_mhz = 50
        assert Clocks.fclk0_mhz == pytest.approx(50, rel=1e-3)


def test_mmio_and_register_map_agree(overlay: Any, device: VirtualBoard) -> None:
    mmio = MMIO(device.hardware.platform.core_address, 0x1000)
    overlay.pliant_core_0.register_map.watchdog = 123456
    assert mmio.read(0x2C) == 123456
    assert mmio.read(0x08, 8) == CONFIG.fingerprint
    mmio.write(0x2C, b"\x01\x00\x00\x00")
    assert int(overlay.pliant_core_0.register_map.watchdog) == 1
    status = overlay.pliant_core_0.register_map.status
    assert (status.RUNNING, status.DONE, status.FAULT) == (0, 0, 0)


def test_a_driver_binds_to_the_core(
    device: VirtualBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pynq.overlay, "_ip_drivers", dict(pynq.overlay._ip_drivers))

    class CoreDriver(DefaultIP):  # type: ignore[misc]  # PYNQ has no types
        bindto = [CORE_VLNV]  # noqa: RUF012 - PYNQ's form

        def __init__(self, description: Any) -> None:
            super().__init__(description=description)

    overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
    assert isinstance(overlay.pliant_core_0, CoreDriver)
    assert overlay.pliant_core_0.read(0) == IDENTIFIER


def test_buffers_are_aligned_counted_and_freed(device: VirtualBoard, overlay: Any) -> None:
    memory = device.hardware.memory
    first = allocate((3, 5), np.int16)
    second = overlay.PSDDR.allocate(10, "u1")
    assert (first.shape, first.dtype) == ((3, 5), np.int16)
    assert first.device_address % PAGE_BYTES == second.physical_address % PAGE_BYTES == 0
    assert first.device_address != second.physical_address
    assert (len(memory.live), memory.live_bytes) == (2, 40)
    view = first[1]
    assert view.device_address == first.device_address + 10
    view[:] = 258
    view.flush()
    start = view.device_address - memory.base
    assert memory.device_bytes[start:start + 10].tolist() == [2, 1] * 5
    del view, first
    with second:
        assert len(memory.live) == 1
    assert second.freed
    assert not memory.live
    second.freebuffer()


def test_memory_that_runs_out_is_a_memory_error(device: VirtualBoard) -> None:
    with pytest.raises(MemoryError, match="no room for 1000000000 bytes"):
        allocate(10**9, "u1", target=device)


def test_a_program_runs_exactly_through_pynq_alone(
    device: VirtualBoard, overlay: Any, case: Case
) -> None:
    buffer, image = place(case, device)
    buffer.flush()

    async def twice() -> None:
        for _ in range(2):
            await run(overlay.pliant_core_0, image)
            buffer.invalidate()
            case.require_exact(buffer)
            buffer[:] = case.image(buffer.device_address).data
            buffer.flush()

    asyncio.run(twice())
    assert Status(overlay.pliant_core_0.read(0x14)) == Status.DONE
    assert int(overlay.pliant_core_0.register_map.cycles_low) > 1000


def test_polling_ends_without_interrupts(
    device: VirtualBoard, overlay: Any, case: Case
) -> None:
    core = overlay.pliant_core_0
    buffer, image = place(case, device)
    buffer.flush()
    set_up(core.write, image)
    start(core.write)
    polls = 0
    while not core.register_map.status.DONE:
        polls += 1
        assert polls < 1000
    assert polls > 1
    buffer.invalidate()
    case.require_exact(buffer)


def test_a_forgotten_flush_gives_wrong_results(
    device: VirtualBoard, overlay: Any, case: Case
) -> None:
    buffer, image = place(case, device)
    instructions = image.program_length * 32
    buffer[:instructions].flush()
    asyncio.run(run(overlay.pliant_core_0, image))
    buffer.invalidate()
    with pytest.raises(AssertionError):
        case.require_exact(buffer)


def test_a_forgotten_invalidate_gives_wrong_results(
    device: VirtualBoard, overlay: Any, case: Case
) -> None:
    buffer, image = place(case, device)
    buffer.flush()
    asyncio.run(run(overlay.pliant_core_0, image))
    with pytest.raises(AssertionError):
        case.require_exact(buffer)
    buffer.invalidate()
    case.require_exact(buffer)


def test_coherent_memory_needs_neither(case: Case, tmp_path: Path) -> None:
    with VirtualBoard(platform("ultra96"), CONFIG, coherent=True) as device:
        overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
        buffer, image = place(case, device)
        asyncio.run(run(overlay.pliant_core_0, image))
        case.require_exact(buffer)


def test_a_fault_is_reported_by_interrupt(
    device: VirtualBoard, overlay: Any, case: Case
) -> None:
    core = overlay.pliant_core_0
    buffer, image = place(case, device)
    buffer[:image.program_length * 32] = 0xFF
    buffer.flush()
    set_up(core.write, image)
    core.register_map.interrupt_enable = int(Interrupt.FAULT)
    start(core.write)
    asyncio.run(asyncio.wait_for(core.irq.wait(), 60))
    assert core.register_map.status.FAULT == 1
    core.register_map.control.RESET = 1
    while int(core.register_map.status):
        pass
    assert int(core.register_map.fault_code) == 0


def test_loading_again_resets_the_core(device: VirtualBoard, overlay: Any) -> None:
    overlay.pliant_core_0.register_map.watchdog = 5
    overlay.download()
    assert int(overlay.pliant_core_0.register_map.watchdog) == 0


def test_accesses_where_nothing_answers_are_errors(
    device: VirtualBoard, overlay: Any
) -> None:
    with pytest.raises(BusError, match="nothing answers at address 0xb0000000"):
        MMIO(0xB000_0000, 4).read()
    with pytest.raises(BusError, match="nothing answers"):
        MMIO(device.hardware.platform.core_address + 0x1000, 4).write(0, 1)
    with pytest.raises(BusError, match="words of 4 bytes"):
        device.read_registers(device.hardware.platform.core_address, 2)


def test_registers_do_not_answer_before_an_overlay_is_loaded(
    device: VirtualBoard, tmp_path: Path
) -> None:
    overlay = Overlay(str(device.write_overlay(tmp_path)), device=device, download=False)
    assert CORE_INSTANCE in overlay.ip_dict
    with pytest.raises(BusError, match="no bitstream loaded"):
        MMIO(device.hardware.platform.core_address, 4).read()


def test_bitstreams_of_other_hardware_are_refused(device: VirtualBoard, tmp_path: Path) -> None:
    with VirtualBoard(platform("kv260"), CONFIG) as other:
        path = other.write_overlay(tmp_path)
    with pytest.raises(BitstreamError, match="board 'kv260'"):
        Overlay(str(path), device=device)
    path.write_bytes(b"other")
    with pytest.raises(BitstreamError, match="no header"):
        Overlay(str(path), device=device)
    path.with_suffix(".hwh").unlink()
    with pytest.raises(FileNotFoundError, match="no hardware handoff"):
        Overlay(str(path), device=device)


def test_two_boards_work_in_one_process(tmp_path: Path, case: Case) -> None:
    with (VirtualBoard(platform("ultra96"), CONFIG) as first,
          VirtualBoard(platform("pynq_z2"), CONFIG) as second):
        overlays = [Overlay(str(device.write_overlay(tmp_path / device.name)), device=device)
                    for device in (first, second)]
        assert Device.active_device is second
        for device, overlay in zip((first, second), overlays, strict=True):
            device.activate()
            buffer, image = place(case, device)
            buffer.flush()
            asyncio.run(run(overlay.pliant_core_0, image))
            buffer.invalidate()
            case.require_exact(buffer)
        with pytest.raises(RuntimeError, match="invalidated by Overlay change"):
            asyncio.run(overlays[0].pliant_core_0.irq.wait())


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    from pynq.interrupt import _InterruptController

    device = VirtualBoard(platform("ultra96"), CONFIG)
    overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
    core = overlay.pliant_core_0
    device.close()
    device.close()
    assert not _InterruptController._uio_devices
    assert not hasattr(Device, "_active_device")
    with pytest.raises(BoardError, match="closed"):
        core.read(0)


def test_a_configuration_can_be_put_on_any_platform(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with VirtualBoard(platform("pynq_z2"), preset("tiny")) as device:
            overlay = Overlay(str(device.write_overlay(tmp_path)), device=device)
            assert overlay.pliant_core_0.read(0) == IDENTIFIER
