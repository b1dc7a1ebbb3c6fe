"""The register file against the AXI4-Lite master of cocotbext-axi."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from pliant.spec.config import ISA_VERSION
from pliant.spec.registers import (
    COMPLETION_CYCLES_BITS,
    COMPLETION_CYCLES_OFFSET,
    COUNTER_BITS,
    COUNTERS,
    IDENTIFIER,
    REGISTERS,
    Access,
    Control,
    Interrupt,
)
from pliant_sim.benches.bus_units import CONFIG
from pliant_sim.benches.signals import Unit, pack

WRITABLE = [register for register in REGISTERS.values() if register.access is Access.READ_WRITE]
CONSTANTS = {"identifier": IDENTIFIER, "version": ISA_VERSION, "fingerprint": CONFIG.fingerprint}
COUNTER_NAMES = [name for name, _ in COUNTERS]


async def start(dut: Any, pause: float) -> tuple[Unit, AxiLiteMaster, random.Random]:
    """Reset the design; the master's channels pause for a share of the cycles."""
    source = random.Random(int(cocotb.RANDOM_SEED))
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    master.read_if.log.setLevel("WARNING")
    master.write_if.log.setLevel("WARNING")

    def pauses(seed: float) -> Iterator[bool]:
        generator = random.Random(seed)
        while True:
            yield generator.random() < pause

    if pause:
        for channel in (master.write_if.aw_channel, master.write_if.w_channel,
                        master.write_if.b_channel, master.read_if.ar_channel,
                        master.read_if.r_channel):
            channel.set_pause_generator(pauses(source.random()))
    unit = Unit(dut, "lite_registers")
    await unit.start(done_event=0, fault_event=0, interrupt_clear=0)
    return unit, master, source


async def read(master: AxiLiteMaster, name: str) -> int:
    """Return a register's value; the response must be OKAY."""
    register = REGISTERS[name]
    answer = await master.read(register.address, 4 * register.words)
    assert answer.resp == AxiResp.OKAY
    return int.from_bytes(answer.data, "little")


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def configuration_registers_hold_what_was_written(dut: Any, pause: float) -> None:
    """All writes are under way at once, then all reads; bytes can be written alone."""
    unit, master, source = await start(dut, pause)
    values = {register.name: source.randbytes(4 * register.words) for register in WRITABLE}
    for task in [cocotb.start_soon(master.write(REGISTERS[name].address, value))
                 for name, value in values.items()]:
        assert (await task).resp == AxiResp.OKAY
    reads = {name: cocotb.start_soon(read(master, name)) for name in values}
    for name, value in values.items():
        assert await reads[name] == int.from_bytes(value, "little"), name
        assert unit.read(name) == int.from_bytes(value, "little"), name
    name = "program_base"
    for byte in range(8):
        await master.write(REGISTERS[name].address + byte, bytes([0xA0 + byte]))
    assert await read(master, name) == int.from_bytes(range(0xA0, 0xA8), "little")


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.5])
async def whole_register_space_reads_as_the_map_says(dut: Any, pause: float) -> None:
    """Constants, inputs and counters by name; 0 elsewhere; writes there change nothing."""
    unit, master, source = await start(dut, pause)
    inputs = {
        name: source.getrandbits(32 * register.words) for name, register in REGISTERS.items()
        if register.access is Access.READ_ONLY
        and name not in (*CONSTANTS, "completion", *COUNTER_NAMES)
    }
    counters = {name: source.getrandbits(COUNTER_BITS) for name in COUNTER_NAMES}
    counters["cycles"] >>= source.choice([0, COUNTER_BITS - COMPLETION_CYCLES_BITS])
    unit.drive(**inputs, counters=pack(list(counters.values()), COUNTER_BITS))
    cycles = min(counters["cycles"], (1 << COMPLETION_CYCLES_BITS) - 1)
    completion = {"completion": cycles << COMPLETION_CYCLES_OFFSET}
    expected = bytearray(0x200)
    for name, value in {**CONSTANTS, **inputs, **completion, **counters}.items():
        register = REGISTERS[name]
        size = 4 * register.words
        expected[register.address:register.address + size] = value.to_bytes(size, "little")
    for address in range(0, len(expected), 4):
        if not any(r.address <= address < r.address + 4 * r.words for r in WRITABLE):
            if address == REGISTERS["control"].address:
                continue
            assert (await master.write(address, b"\xff" * 4)).resp == AxiResp.OKAY
    answer = await master.read(0, len(expected))
    assert answer.resp == AxiResp.OKAY
    assert answer.data == bytes(expected)
    assert (await master.read(0xFFC, 4)).data == bytes(4)


@cocotb.test()
async def control_pulses_and_interrupts(dut: Any) -> None:
    """Start and reset are pulses of one cycle; an event raises irq until it is cleared."""
    unit, master, _ = await start(dut, 0.3)
    pulses = {"start": 0, "reset": 0}

    async def count() -> None:
        while True:
            await unit.settle()
            for name in pulses:
                pulses[name] += int(getattr(dut, f"lite_registers_{name}").value)
            await unit.tick()

    cocotb.start_soon(count())
    for word, expected in ((Control.START, (1, 0)), (Control.RESET, (1, 1)), (0, (1, 1)),
                           (Control.START | Control.RESET, (2, 2))):
        await master.write(REGISTERS["control"].address, int(word).to_bytes(4, "little"))
        assert (pulses["start"], pulses["reset"]) == expected

    await master.write(REGISTERS["interrupt_enable"].address, bytes([Interrupt.FAULT, 0, 0, 0]))
    for event, raised in (("done_event", 0), ("fault_event", 1)):
        await unit.tick()
        unit.drive(**{event: 1})
        await unit.tick()
        unit.drive(**{event: 0})
        for _ in range(3):
            await unit.tick()
        assert int(dut.irq.value) == raised
    assert await read(master, "interrupt_status") == Interrupt.DONE | Interrupt.FAULT
    await master.write(REGISTERS["interrupt_status"].address, bytes([Interrupt.FAULT, 0, 0, 0]))
    assert await read(master, "interrupt_status") == Interrupt.DONE
    assert int(dut.irq.value) == 0
