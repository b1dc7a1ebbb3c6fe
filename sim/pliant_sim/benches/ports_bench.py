"""The whole core with several memory ports: runs, pauses, errors and resets, as with one.

The variable PORTS tells how many there are and how wide: ``count,data_bytes``. The program and the
integers are those of the core with one port.
"""

from __future__ import annotations

import os
from typing import Any

import cocotb

from pliant.driver.image import BlockImage
from pliant.spec.isa import INSTRUCTION_BYTES, Load, Store
from pliant.spec.registers import Fault, FaultUnit, Interrupt, Status
from pliant_hw.memory_ports import MemoryPorts, port_number
from pliant_sim.benches.core_driver import BEAT, CONFIG, Core, Job
from pliant_sim.benches.top_bench import (
    TILED,
    expect_outputs,
    fill,
    first_access,
    make_job,
)

COUNT, DATA_BYTES = (int(word) for word in os.environ["PORTS"].split(","))
PORTS = MemoryPorts(count=COUNT, data_bytes=DATA_BYTES)
KINDS = ("convolution_add_other", "branches", "linear")


async def run(core: Core, image: BlockImage, job: Job) -> None:
    """Run a configured job; compare results, and what the ports moved with the counters."""
    fill(image, job)
    await core.start()
    await core.interrupt()
    expect_outputs(image, job)
    assert await core.read("interrupt_status") == Interrupt.DONE
    await core.write("interrupt_status", Interrupt.DONE)
    ratio = PORTS.ratio(CONFIG)
    assert await core.read("read_beats") * ratio == sum(
        monitor.read_beats for monitor in core.monitors)
    assert await core.read("write_beats") * ratio == sum(
        monitor.write_beats for monitor in core.monitors)
    assert in_flight(core) == 0
    for index, monitor in enumerate(core.monitors):
        for burst in (*monitor.reads, *monitor.writes):
            assert port_number(CONFIG, PORTS, burst.address) == index, burst


def in_flight(core: Core) -> int:
    """Return how many bursts the memories have not answered in full."""
    return sum(monitor.in_flight for monitor in core.monitors)


@cocotb.test()
@cocotb.parametrize(kind=KINDS, pause=[0.0, 0.3, 0.7])
async def runs_are_exact(dut: Any, kind: str, pause: float) -> None:
    """Every channel of every port pauses at random, and all ports are used."""
    core = Core(dut, PORTS)
    await core.power_on(pause)
    job = make_job(kind)
    image = await core.configure(job)
    for _ in range(2):
        await run(core, image, job)
    assert all(monitor.reads for monitor in core.monitors)
    assert any(monitor.writes for monitor in core.monitors)


@cocotb.test()
@cocotb.parametrize(kind=["read", "write"], pause=[0.0, 0.4])
async def an_error_at_one_port_is_reported_and_survived(dut: Any, kind: str, pause: float) -> None:
    """SLVERR for one beat in mid-run: the fault names the unit, the instruction and the burst."""
    core = Core(dut, PORTS)
    await core.power_on(pause)
    job = make_job(TILED)
    image = await core.configure(job)
    await run(core, image, job)
    last = core.monitors[-1]
    program = range(image.program_base,
                    image.program_base + image.program_length * INSTRUCTION_BYTES)
    bursts = last.writes if kind == "write" else [
        burst for burst in last.reads if burst.address not in program]
    burst = bursts[-1]
    refused = (burst.end - 1) // BEAT * BEAT
    (core.memory.refused_writes if kind == "write" else core.memory.refused_reads).add(refused)
    fill(image, job)
    await core.start()
    await core.interrupt()
    assert await core.read("status") == Status.FAULT
    assert [await core.read(f"fault_{name}") for name in ("code", "unit", "instruction")] == [
        Fault.AXI_WRITE if kind == "write" else Fault.AXI_READ,
        FaultUnit.STORE if kind == "write" else FaultUnit.LOAD,
        first_access(image, Store if kind == "write" else Load, refused)]
    assert await core.read("fault_address") == burst.address
    await core.ticks(300)
    assert in_flight(core) == 0
    core.memory.refused_reads.clear()
    core.memory.refused_writes.clear()
    await core.reset()
    await run(core, image, job)


@cocotb.test()
async def soft_reset_at_random_moments(dut: Any) -> None:
    """A reset waits for all ports, and what comes after finds nothing of before in them."""
    core = Core(dut, PORTS)
    await core.power_on(0.3)
    job = make_job(TILED)
    image = await core.configure(job)
    for _ in range(10):
        fill(image, job)
        await core.start()
        await core.ticks(core.random.randrange(1200))
        await core.reset()
        assert in_flight(core) == 0
        await run(core, image, job)
