"""The whole core against the AXI models of cocotbext-axi: runs, pauses, interrupts, errors, resets.

Every run's outputs are compared with those of the integer graph, in memory and at the very edge of
the interrupt.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from pliant.compiler import compile_graph
from pliant.compiler.reference import evaluate
from pliant.driver.image import BlockImage
from pliant.spec.isa import INSTRUCTION_BYTES, Load, Matrix, Post, Store, Unit
from pliant.spec.program import Program
from pliant.spec.registers import (
    COMPLETION_CYCLES_OFFSET,
    COUNTERS,
    Control,
    Fault,
    FaultUnit,
    Interrupt,
    Status,
)
from pliant_hw.axi import FETCH_ID, LOAD_ID
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim.benches.core_driver import BEAT, CONFIG, RUN_LIMIT, Burst, Core, Job

# Small layers by kind and seed, 700 to 3000 cycles each: several tiles, partial sums kept from one
# Matrix to the next, residual tensors, both reductions, a table.
LAYERS = {
    "convolution_add_other": 4, "branches": 4, "convolution_lookup": 5, "linear": 6,
    "max_pool": 1, "average_pool": 4, "clip": 1,
}
TILED = "convolution_add_other"
"""Two tiles, two inputs, loads and stores of several bursts."""

KINDS = [cocotb.Param(kind, name=kind) for kind in LAYERS]
BOTH = Interrupt.DONE | Interrupt.FAULT


@functools.cache
def make_job(kind: str) -> Job:
    """Compile the layer of a kind and evaluate its graph on random inputs."""
    seed = LAYERS[kind]
    graph = random_layer(seed, multiplier_bits=CONFIG.multiplier_bits, max_size=9, max_channels=14,
                         kind=kind)
    inputs = random_inputs(graph, seed)
    expected = evaluate(graph, inputs, multiplier_bits=CONFIG.multiplier_bits)
    return Job(
        compile_graph(graph, CONFIG),
        tuple(inputs[tensor.name][0] for tensor in graph.inputs),
        tuple(expected[name][0] for name in graph.outputs),
    )


def fill(image: BlockImage, job: Job) -> None:
    """Write the inputs; overwrite what an earlier run left."""
    image.poison()
    for index, tensor in enumerate(job.inputs):
        image.write_input(index, tensor)


def expect_outputs(image: BlockImage, job: Job) -> None:
    """Compare outputs, and all of the memory that a run must leave alone."""
    for info, expected in zip(job.program.outputs, job.outputs, strict=True):
        np.testing.assert_array_equal(image.read_tensor(info), expected, err_msg=info.name)
    found = image.data.copy()
    fill(image, job)
    fresh = BlockImage(job.program, CONFIG, base=image.base)
    fill(fresh, job)
    np.testing.assert_array_equal(image.data, fresh.data, err_msg="the run changed constant data")
    image.data[:] = found


async def run(core: Core, image: BlockImage, job: Job) -> None:
    """Run a configured job from start to interrupt; compare results, traffic and counters."""
    fill(image, job)
    await core.start()
    await core.interrupt()
    completion = await core.read("completion")
    expect_outputs(image, job)
    cycles = await core.read("cycles")
    assert completion == Interrupt.DONE | cycles << COMPLETION_CYCLES_OFFSET
    assert await core.read("interrupt_status") == Interrupt.DONE
    await core.write("interrupt_status", Interrupt.DONE)
    await core.ticks(2)
    assert not core.irq
    assert await core.read("status") == Status.DONE
    await expect_counters(core, job.program)


async def expect_counters(core: Core, program: Program) -> None:
    """Compare counters with the program, and traffic and trace pulses with both."""
    items = program.decoded()
    loads = [item for item in items if isinstance(item, Load)]
    stores = [item for item in items if isinstance(item, Store)]
    matrices = [item for item in items if isinstance(item, Matrix)]
    posts = [item for item in items if isinstance(item, Post)]
    monitor = core.monitor
    units = Counter(item.unit for item in items if item.unit is not None)
    assert monitor.started == monitor.done == units
    counters = {name: await core.read(name) for name, _ in COUNTERS}
    exact = {
        "read_beats": len(program.instructions) // BEAT
        + sum(item.blocks * item.runs * item.run_beats for item in loads),
        "write_beats": sum(item.blocks * item.runs * item.run_beats for item in stores),
        "matrix_active": sum(item.groups * item.kernel_height * item.kernel_width
                             * item.out_height * item.out_width for item in matrices),
        "post_active": sum(item.groups * item.out_height * item.out_width for item in posts),
    }
    assert {name: counters[name] for name in exact} == exact
    assert counters["read_beats"] == monitor.read_beats
    assert counters["write_beats"] == monitor.write_beats
    assert sum(burst.beats for burst in monitor.reads) == monitor.read_beats
    assert sum(burst.beats for burst in monitor.writes) == monitor.write_beats
    assert monitor.in_flight == 0
    assert 0 < counters["cycles"] <= monitor.cycles
    for name, value in counters.items():
        assert value <= counters["cycles"], name
    for unit in Unit:
        assert (counters[f"{unit.name.lower()}_busy"] > 0) == (units[unit] > 0), unit


def covering(bursts: list[Burst], address: int) -> Burst:
    """Return the first burst that holds an address."""
    return next(burst for burst in bursts if burst.address <= address < burst.end)


def first_access(image: BlockImage, kind: type[Load] | type[Store], address: int) -> int:
    """Return the index of the first instruction of a kind that touches an address."""
    for index, item in enumerate(image.program.decoded()):
        if not isinstance(item, kind):
            continue
        base = image.segment_bases[item.segment] + item.offset
        for block in range(item.blocks):
            for number in range(item.runs):
                start = base + block * item.block_stride + number * item.run_stride
                if start <= address < start + item.run_beats * BEAT:
                    return index
    raise AssertionError(f"no {kind.__name__} touches {address:#x}")


@cocotb.test()
@cocotb.parametrize(kind=KINDS)
async def runs_are_exact(dut: Any, kind: str) -> None:
    """A second run finds the core as the first one did: the same cycles, counter by counter."""
    core = Core(dut)
    await core.power_on()
    job = make_job(kind)
    image = await core.configure(job)
    counters = []
    for _ in range(2):
        await run(core, image, job)
        counters.append({name: await core.read(name) for name, _ in COUNTERS})
    assert counters[0] == counters[1]


@cocotb.test()
@cocotb.parametrize(kind=KINDS[:3], pause=[0.3, 0.7])
async def runs_are_exact_under_pauses(dut: Any, kind: str, pause: float) -> None:
    """Every channel of both buses pauses at random; jobs follow one another without a reset."""
    core = Core(dut)
    await core.power_on(pause)
    for name in (kind, "average_pool", kind):
        job = make_job(name)
        await run(core, await core.configure(job), job)


@cocotb.test()
async def interrupts_follow_enable_and_clear(dut: Any) -> None:
    """The pin is the or of the enabled pending bits; each ends by a one, a start, or a reset."""
    core = Core(dut)
    await core.power_on()
    job = make_job("clip")
    image = await core.configure(job)

    async def pin(enable: int) -> int:
        await core.write("interrupt_enable", enable)
        await core.ticks(2)
        return core.irq

    assert not await pin(0)
    fill(image, job)
    await core.start()
    assert await core.read("status") == Status.RUNNING
    while await core.read("status") == Status.RUNNING:
        assert not core.irq
        assert core.monitor.cycles < RUN_LIMIT
    assert await core.read("status") == Status.DONE
    expect_outputs(image, job)
    assert not core.irq
    assert await core.read("interrupt_status") == Interrupt.DONE
    assert [await pin(enable) for enable in (Interrupt.FAULT, Interrupt.DONE, 0, BOTH)] == [
        0, 1, 0, 1]
    await core.write("interrupt_status", Interrupt.FAULT)
    await core.ticks(2)
    assert core.irq

    await core.start()
    await core.ticks(1)
    assert not core.irq
    assert await core.read("interrupt_status") == 0
    await core.interrupt()
    assert await core.read("interrupt_status") == Interrupt.DONE
    await core.reset()
    await core.ticks(2)
    assert not core.irq
    assert await core.read("interrupt_status") == 0
    assert await core.read("interrupt_enable") == BOTH
    await run(core, image, job)


@cocotb.test()
async def start_is_ignored_while_a_program_runs(dut: Any) -> None:
    """The run goes on undisturbed: its instructions are executed once."""
    core = Core(dut)
    await core.power_on()
    job = make_job(TILED)
    image = await core.configure(job)
    fill(image, job)
    await core.start()
    for _ in range(3):
        await core.ticks(40)
        await core.write("control", Control.START)
    assert await core.read("status") == Status.RUNNING
    await core.interrupt()
    expect_outputs(image, job)
    await core.ticks(50)
    assert await core.read("status") == Status.DONE
    await expect_counters(core, job.program)


async def expect_fault(
    core: Core, image: BlockImage, job: Job, code: Fault, unit: FaultUnit, index: int, address: int
) -> None:
    """Run into a fault; check its report, reset, run exactly."""
    fill(image, job)
    await core.start()
    await core.interrupt()
    assert await core.read("status") == Status.FAULT
    assert await core.read("interrupt_status") == Interrupt.FAULT
    cycles = await core.read("cycles")
    assert await core.read("completion") == Interrupt.FAULT | cycles << COMPLETION_CYCLES_OFFSET
    report = [await core.read(f"fault_{name}") for name in ("code", "unit", "instruction")]
    assert report == [code, unit, index]
    assert await core.read("fault_address") == address

    await core.ticks(200)
    assert core.monitor.in_flight == 0
    bursts = len(core.monitor.reads), len(core.monitor.writes)
    await core.write("control", Control.START)
    await core.ticks(100)
    assert await core.read("status") == Status.FAULT
    assert await core.read("interrupt_status") == Interrupt.FAULT
    assert (len(core.monitor.reads), len(core.monitor.writes)) == bursts

    core.memory.refused_reads.clear()
    core.memory.refused_writes.clear()
    await core.reset()
    for name in ("code", "unit", "instruction", "address"):
        assert await core.read(f"fault_{name}") == 0, name
    assert await core.read("interrupt_status") == 0
    assert not core.irq
    await run(core, image, job)


@cocotb.test()
@cocotb.parametrize(unit=["fetch", "load"], pause=[0.0, 0.4])
async def read_error_is_reported_and_survived(dut: Any, unit: str, pause: float) -> None:
    """SLVERR on the last beat of a burst in mid-run, of the program or of its data."""
    core = Core(dut)
    await core.power_on(pause)
    job = make_job(TILED)
    image = await core.configure(job)
    await run(core, image, job)
    axi_id = FETCH_ID if unit == "fetch" else LOAD_ID
    bursts = [burst for burst in core.monitor.reads if burst.axi_id == axi_id]
    refused = bursts[len(bursts) // 2].end - BEAT
    core.memory.refused_reads.add(refused)
    index = ((refused - image.program_base) // INSTRUCTION_BYTES if unit == "fetch"
             else first_access(image, Load, refused))
    await expect_fault(core, image, job, Fault.AXI_READ, FaultUnit[unit.upper()], index,
                       covering(bursts, refused).address)


@cocotb.test()
@cocotb.parametrize(which=[0, -1], pause=[0.0, 0.4])
async def write_error_is_reported_and_survived(dut: Any, which: int, pause: float) -> None:
    """SLVERR for the first or for the last burst that is written."""
    core = Core(dut)
    await core.power_on(pause)
    job = make_job(TILED)
    image = await core.configure(job)
    await run(core, image, job)
    refused = core.monitor.writes[which].end - BEAT
    core.memory.refused_writes.add(refused)
    await expect_fault(core, image, job, Fault.AXI_WRITE, FaultUnit.STORE,
                       first_access(image, Store, refused),
                       covering(core.monitor.writes, refused).address)


@cocotb.test()
@cocotb.parametrize(channel=["r", "b"], beats=[0, 10, 25])
async def soft_reset_drains_what_is_outstanding(dut: Any, channel: str, beats: int) -> None:
    """The memory falls silent in mid-run: the reset starts no burst and waits for the answers."""
    core = Core(dut)
    await core.power_on()
    job = make_job(TILED)
    image = await core.configure(job)
    fill(image, job)
    monitor = core.monitor
    read = channel == "r"
    interface = core.slave.read_if if read else core.slave.write_if
    silent = getattr(interface, f"{channel}_channel")
    await core.start()
    while (monitor.read_beats if read else monitor.write_beats) < beats:
        await FallingEdge(dut.clk)
        assert monitor.cycles < RUN_LIMIT
    silent.pause = True
    while not (monitor.open_reads.total() if read else monitor.open_writes):
        await FallingEdge(dut.clk)
        assert monitor.cycles < RUN_LIMIT
    await core.ticks(60)
    await core.write("control", Control.RESET)
    assert await core.read("status") == Status.DRAINING
    await core.ticks(60)
    bursts = len(monitor.reads), len(monitor.writes)
    await core.ticks(200)
    assert (len(monitor.reads), len(monitor.writes)) == bursts
    assert await core.read("status") == Status.DRAINING

    silent.pause = False
    await core.idle()
    assert monitor.in_flight == 0
    assert await core.read("interrupt_status") == 0
    assert not core.irq
    await run(core, image, job)


@cocotb.test()
async def soft_reset_at_random_moments(dut: Any) -> None:
    """From the first fetch to the last store; the configuration registers keep their values."""
    core = Core(dut)
    await core.power_on(0.3)
    job = make_job(TILED)
    image = await core.configure(job)
    for _ in range(10):
        fill(image, job)
        await core.start()
        await core.ticks(core.random.randrange(1200))
        await core.reset()
        assert core.monitor.in_flight == 0
        assert await core.read("interrupt_status") == 0
        await run(core, image, job)
