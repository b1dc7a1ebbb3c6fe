"""The driver on the RTL: exact results, warm starts, batches, accesses, errors and recovery."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.driver.cases import CONFIG, MEMORY_BYTES, Case, FaultyDevice, layer_case, network_case

from pliant.driver.accelerator import Accelerator
from pliant.driver.faults import (
    DeviceMemoryError,
    DriverError,
    HardwareFault,
    HardwareMismatchError,
    LostInterruptError,
    MemoryCorruptedError,
    ProgramMismatchError,
    ResetTimeoutError,
    RunTimeoutError,
)
from pliant.driver.metered import MeteredDevice
from pliant.spec.config import preset
from pliant.spec.isa import Store, Unit
from pliant.spec.program import ProgramError, Segment
from pliant.spec.registers import Fault, FaultUnit, Status


@pytest.fixture
def device() -> Iterator[FaultyDevice]:
    device = FaultyDevice.of(CONFIG, memory_bytes=MEMORY_BYTES, coherent=False)
    assert isinstance(device, FaultyDevice)
    yield device
    assert not device.memory.live, "buffers were leaked"
    device.close()


@pytest.fixture
def accelerator(device: FaultyDevice) -> Iterator[Accelerator]:
    with Accelerator(device, CONFIG, limit_cycles=50_000) as accelerator:
        yield accelerator


@pytest.fixture
def case() -> Case:
    return layer_case(3)


@pytest.mark.parametrize("seed", range(4))
def test_batches_are_exact(accelerator: Accelerator, seed: int) -> None:
    case = network_case(seed)
    accelerator.load(case.program)
    for images in (1, 2, 3, 4):
        case.run_exactly(accelerator, images)


def test_programs_in_any_order_are_exact_and_free_their_memory(
    accelerator: Accelerator, device: FaultyDevice
) -> None:
    for seed in (0, 1, 0, 0, 2, 1):
        case = network_case(seed)
        accelerator.load(case.program)
        case.run_exactly(accelerator, 2)
    held = len(device.memory.live)
    accelerator.load(network_case(0).program)
    assert len(device.memory.live) <= held + 1  # scratch may be absent
    accelerator.close()
    assert not device.memory.live
    with pytest.raises(RuntimeError, match="no program is loaded"):
        accelerator.run(case.inputs[0])
    accelerator.load(case.program)
    case.run_exactly(accelerator)


def test_one_image_comes_back_without_an_axis_of_images(
    accelerator: Accelerator, case: Case
) -> None:
    accelerator.load(case.program)
    result = accelerator.run(*(value[1] for value in case.inputs))
    name = case.program.outputs[0].name
    assert np.array_equal(result.output, case.expected[name][1])
    assert len(result.cycles) == 1
    assert result.classes().shape == (1,)


def test_files_paths_and_bytes_are_loaded(
    accelerator: Accelerator, case: Case, tmp_path: Path
) -> None:
    path = tmp_path / "program.pliant"
    case.program.save(path)
    for source in (path, str(path), path.read_bytes()):
        accelerator.close()
        assert accelerator.load(source) == case.program
        case.run_exactly(accelerator)
    with pytest.raises(ProgramError, match="truncated or corrupted"):
        accelerator.load(path.read_bytes()[:100])
    case.run_exactly(accelerator)


def test_a_program_that_is_there_is_not_written_again(
    accelerator: Accelerator, device: FaultyDevice, case: Case
) -> None:
    accelerator.load(case.program)
    case.run_exactly(accelerator)
    before, cycle = dict(device.memory.live), device.core.statistics().cycle
    accelerator.load(dataclasses.replace(case.program))
    assert device.memory.live == before
    assert device.core.statistics().cycle == cycle


@pytest.mark.parametrize("images", [1, 4])
def test_a_warm_image_takes_few_register_accesses(
    device: FaultyDevice, case: Case, images: int
) -> None:
    metered = MeteredDevice(device)
    with Accelerator(metered, CONFIG) as accelerator:
        accelerator.load(case.program)
        case.run_exactly(accelerator, images)
        before = metered.accesses
        case.run_exactly(accelerator, images)
        # Two segments (the first image of a batch may find them set), start, completion; once a
        # batch, whether the core is as it was left.
        assert metered.accesses - before == 4 * images + 1 - 2 * (images % 2)


def test_dma_is_confined_to_the_memory_of_the_program(
    accelerator: Accelerator, device: FaultyDevice, case: Case
) -> None:
    accelerator.load(case.program)
    held = device.memory.live.values()
    assert accelerator.core.read("window_base") == min(item.address for item in held)
    assert accelerator.core.read("window_limit") == max(
        item.address + item.nbytes for item in held)


def test_the_next_image_is_copied_while_one_is_computed(
    device: FaultyDevice, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Accelerator(device, CONFIG) as accelerator:
        accelerator.load(case.program)
        residence, running = accelerator._session.residence, []
        write, read = residence.write_inputs, residence.read_outputs

        def watch_write(slot, tensors):
            running.append(("write", bool(accelerator.core.status() & Status.RUNNING)))
            write(slot, tensors)

        def watch_read(slot):
            running.append(("read", bool(accelerator.core.status() & Status.RUNNING)))
            return read(slot)

        monkeypatch.setattr(residence, "write_inputs", watch_write)
        monkeypatch.setattr(residence, "read_outputs", watch_read)
        case.run_exactly(accelerator, 3)
    assert running == [("write", False), ("write", True), ("read", True), ("write", True),
                       ("read", True), ("read", False)]


def test_runs_can_be_awaited(accelerator: Accelerator, case: Case) -> None:
    accelerator.load(case.program)
    assert case.is_exact(asyncio.run(accelerator.run_async(*case.inputs)))


def test_a_cancelled_run_resets_the_core(
    accelerator: Accelerator, device: FaultyDevice, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(timeout_s: float) -> bool:
        await asyncio.sleep(3600)
        return False

    async def cancel() -> None:
        task = asyncio.create_task(accelerator.run_async(*case.inputs))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one run at a time"):
            accelerator.run(*case.inputs)
        assert accelerator.core.status() == Status.RUNNING
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    accelerator.load(case.program)
    with monkeypatch.context() as context:
        context.setattr(device, "wait_async", never)
        asyncio.run(cancel())
    assert accelerator.core.status() == 0
    case.run_exactly(accelerator, 2)


def test_inputs_that_do_not_fit_are_refused_before_the_core_is_touched(
    accelerator: Accelerator, device: FaultyDevice, case: Case
) -> None:
    accelerator.load(case.program)
    cycle = device.core.statistics().cycle
    first = case.inputs[0]
    with pytest.raises(ValueError, match=r"inputs \(.*\), found 0"):
        accelerator.run()
    with pytest.raises(ValueError, match=r"found int8 \(1, 1, 1\), allowed is int8"):
        accelerator.run(*(np.zeros((1, 1, 1), np.int8) for _ in case.inputs))
    with pytest.raises(ValueError, match=r"quantize\(\) takes real values"):
        accelerator.run(*(value.astype(np.float32) for value in case.inputs))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one or more"):
        accelerator.run(*(value[:0] for value in case.inputs))
    if len(case.inputs) > 1:
        with pytest.raises(ValueError, match="same number of images"):
            accelerator.run(first[:1], *(value[:2] for value in case.inputs[1:]))
    assert device.core.statistics().cycle == cycle


def test_what_is_no_input_limit_or_output_is_told(accelerator: Accelerator, case: Case) -> None:
    accelerator.load(dataclasses.replace(case.program, inputs=()))
    with pytest.raises(ValueError, match="has no inputs"):
        accelerator.run()
    accelerator.load(case.program)
    with pytest.raises(ValueError, match="allowed is int8"):
        accelerator.run(*(value.tolist() for value in case.inputs))
    with pytest.raises(ValueError, match=r"has \d inputs, found 0"):
        accelerator.quantize()
    accelerator.limit_cycles = 0
    with pytest.raises(ValueError, match="limit_cycles = 0 must be 1 or more"):
        accelerator.run(*case.inputs)
    accelerator.limit_cycles = None
    result = accelerator.run(*case.inputs)
    with pytest.raises(ValueError, match="has no output 'nothing'; it has"):
        result.real("nothing")


def test_a_core_of_another_configuration_is_refused_with_both_named(device: FaultyDevice) -> None:
    with pytest.raises(HardwareMismatchError,
                       match=r"'fingerprint'.*'kv260' needs.*load the bitstream"):
        Accelerator(device, preset("kv260"))


def test_a_program_for_another_configuration_is_refused_with_both_named(
    accelerator: Accelerator, case: Case
) -> None:
    accelerator.load(case.program)
    foreign = dataclasses.replace(case.program, fingerprint=1, config_name="other")
    with pytest.raises(ProgramMismatchError, match=r"configuration 'other'.*not for 'tiny'"
                       r".*--config tiny, or load the bitstream of 'other'"):
        accelerator.load(foreign)
    case.run_exactly(accelerator)


def test_options_out_of_range_are_refused(device: FaultyDevice) -> None:
    for options in ({"verify": "never"}, {"slots": 3}, {"limit_cycles": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Accelerator(device, CONFIG, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("left", range(5))
def test_exhausted_memory_is_reported_and_nothing_stays_allocated(
    accelerator: Accelerator, device: FaultyDevice, case: Case, left: int
) -> None:
    accelerator.load(network_case(1).program)
    device.allocations_left = left
    with pytest.raises(DeviceMemoryError, match=r"no .* bytes of device memory for its"):
        accelerator.load(case.program)
    assert not device.memory.live
    device.heal()
    accelerator.load(case.program)
    case.run_exactly(accelerator)


def test_a_fault_names_layer_unit_and_instruction_and_the_next_run_is_exact(
    accelerator: Accelerator, device: FaultyDevice, case: Case
) -> None:
    accelerator.load(case.program)
    device.core.inject_fault("write", "SLVERR", burst=0)
    with pytest.raises(HardwareFault) as caught:
        accelerator.run(*case.inputs)
    fault = caught.value
    assert (fault.code, fault.unit) == (Fault.AXI_WRITE, FaultUnit.STORE)
    assert isinstance(case.program.decoded()[fault.index], Store)
    assert fault.layer == case.program.layers[0].name
    assert fault.instruction.startswith("store")
    device.heal()
    case.run_exactly(accelerator, 2)


def test_a_run_beyond_its_limit_is_ended_by_the_hardware_watchdog(
    accelerator: Accelerator, case: Case
) -> None:
    accelerator.load(case.program)
    accelerator.limit_cycles = 100
    with pytest.raises(HardwareFault) as caught:
        accelerator.run(*case.inputs)
    assert caught.value.code is Fault.WATCHDOG
    accelerator.limit_cycles = None
    case.run_exactly(accelerator, 2)


def test_without_the_watchdog_the_driver_says_what_each_unit_does(
    device: FaultyDevice, case: Case
) -> None:
    with Accelerator(device, CONFIG, watchdog=False, limit_cycles=20_000) as accelerator:
        accelerator.load(case.program)
        start = accelerator.image.segment_bases[Segment.INPUT]
        device.core.inject_fault("read", "SILENCE", addresses=(start, start + 4096))
        with pytest.raises(RunTimeoutError, match=r"LOAD waits for [\w ]*memory") as caught:
            accelerator.run(*case.inputs)
        assert caught.value.units[Unit.STORE] != "works"
        device.heal()
        case.run_exactly(accelerator, 2)


def test_a_silent_memory_ends_in_bounded_time_and_is_recovered_from_when_it_answers(
    accelerator: Accelerator, device: FaultyDevice, case: Case
) -> None:
    accelerator.load(case.program)
    device.core.inject_fault("read", "SILENCE", burst=3)
    with pytest.raises(HardwareFault) as caught:
        accelerator.run(*case.inputs)
    assert caught.value.code is Fault.WATCHDOG
    assert any("soft reset did not complete" in note for note in caught.value.__notes__)
    with pytest.raises(ResetTimeoutError):
        accelerator.run(*case.inputs)
    device.heal()
    case.run_exactly(accelerator, 2)


def test_close_frees_all_memory_of_a_core_that_cannot_be_stopped(
    device: FaultyDevice, case: Case
) -> None:
    accelerator = Accelerator(device, CONFIG, limit_cycles=5000)
    accelerator.load(case.program)
    device.core.inject_fault("read", "SILENCE", burst=3)
    with pytest.raises(HardwareFault):
        accelerator.run(*case.inputs)
    with pytest.raises(ResetTimeoutError):
        accelerator.close()
    assert not device.memory.live
    assert accelerator.core.read("window_limit") == 0


def test_a_lost_interrupt_is_reported_as_such(
    accelerator: Accelerator, device: FaultyDevice, case: Case
) -> None:
    accelerator.load(case.program)
    device.lose_interrupts = True
    with pytest.raises(LostInterruptError, match="DONE; check that its pin 'irq'") as caught:
        accelerator.run(*case.inputs)
    assert caught.value.status == Status.DONE
    device.heal()
    case.run_exactly(accelerator, 2)


def test_what_wakes_the_driver_too_early_is_waited_through(
    accelerator: Accelerator, device: FaultyDevice, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator.load(case.program)
    wait, calls = device.wait, []

    def early(timeout_s: float) -> bool:
        calls.append(timeout_s)
        return True if len(calls) % 3 else wait(timeout_s)

    monkeypatch.setattr(device, "wait", early)
    case.run_exactly(accelerator, 3)
    assert len(calls) == 9
    monkeypatch.setattr(device, "wait", lambda timeout_s: True)
    with pytest.raises(RunTimeoutError):
        accelerator.run(*case.inputs)


@pytest.mark.parametrize("area", ["instructions", "constants"])
def test_a_changed_program_in_memory_is_found_and_written_again(
    device: FaultyDevice, case: Case, area: str
) -> None:
    with Accelerator(device, CONFIG, verify="run") as accelerator:
        accelerator.load(case.program)
        case.run_exactly(accelerator)
        image = accelerator.image
        address = {"instructions": image.program_base,
                   "constants": image.segment_bases[Segment.CONSTANTS]}[area]
        # Behind End, and in the padding of constants, a flip does no harm but to the comparison.
        offset = len({"instructions": case.program.instructions,
                      "constants": case.program.constants}[area]) - 1
        device.memory.device_bytes[address - device.memory.base + offset] ^= 1
        with pytest.raises(MemoryCorruptedError, match=f"{area} from byte {offset}") as caught:
            accelerator.verify()
        assert caught.value.areas == {area: offset}
        with pytest.raises(DriverError):
            accelerator.run(*case.inputs)
        accelerator.verify()
        case.run_exactly(accelerator, 2)


def test_a_failing_core_is_left_alone_if_told_so(device: FaultyDevice, case: Case) -> None:
    accelerator = Accelerator(device, CONFIG, recover=False)
    accelerator.load(case.program)
    device.core.inject_fault("read", "SLVERR", burst=2)
    with pytest.raises(HardwareFault):
        accelerator.run(*case.inputs)
    assert accelerator.core.status() == Status.FAULT
    with pytest.raises(DriverError, match=r"reset\(\) it before the next"):
        accelerator.run(*case.inputs)
    device.heal()
    accelerator.reset()
    case.run_exactly(accelerator)
    accelerator.close()


def test_two_drivers_may_take_turns_on_a_core(device: FaultyDevice, case: Case) -> None:
    other = network_case(1)
    with Accelerator(device, CONFIG) as first, Accelerator(device, CONFIG) as second:
        first.load(case.program)
        second.load(other.program)
        for _ in range(2):
            case.run_exactly(first, 2)
            other.run_exactly(second, 3)
        device.core.power_on()  # as a new bitstream does
        case.run_exactly(first)


def test_a_core_that_was_left_running_is_stopped_by_the_next_driver(
    device: FaultyDevice, case: Case
) -> None:
    first = Accelerator(device, CONFIG)
    first.load(case.program)
    first.core.start()
    assert first.core.status() == Status.RUNNING
    with Accelerator(device, CONFIG) as second:
        assert second.core.status() == 0
        second.load(case.program)
        case.run_exactly(second)
    first.close()

