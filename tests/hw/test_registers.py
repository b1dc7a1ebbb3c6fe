from __future__ import annotations

import random
from typing import Any

import pytest

from pliant.spec.config import ISA_VERSION, preset
from pliant.spec.registers import (
    COMPLETION_CYCLES_BITS,
    COMPLETION_CYCLES_OFFSET,
    COUNTERS,
    IDENTIFIER,
    REGISTERS,
    Access,
    Control,
    Interrupt,
)
from pliant_hw.counters import Counters
from pliant_hw.registers import RegisterFile
from pliant_sim.benches.simulate import simulate

TINY = preset("tiny")
CONSTANTS = {"identifier": IDENTIFIER, "version": ISA_VERSION, "fingerprint": TINY.fingerprint}
COUNTER_NAMES = [name for name, _ in COUNTERS]
INPUTS = [
    register for register in REGISTERS.values()
    if register.access is Access.READ_ONLY
    and register.name not in (*CONSTANTS, "completion", *COUNTER_NAMES)
]
WRITABLE = [register for register in REGISTERS.values() if register.access is Access.READ_WRITE]


async def handshake(ctx: Any, channel: Any, payload: dict[str, int], delay: int = 0) -> None:
    for _ in range(delay):
        await ctx.tick()
    ctx.set(channel.payload, payload)
    ctx.set(channel.valid, 1)
    for _ in range(20):
        *_, ready = await ctx.tick().sample(channel.ready)
        if ready:
            break
    else:
        raise AssertionError("not accepted within 20 cycles")
    ctx.set(channel.valid, 0)


async def response(ctx: Any, channel: Any, delay: int = 0) -> Any:
    for _ in range(delay):
        await ctx.tick()
    ctx.set(channel.ready, 1)
    for _ in range(20):
        *_, valid, payload = await ctx.tick().sample(channel.valid, channel.payload)
        if valid:
            ctx.set(channel.ready, 0)
            return payload
    raise AssertionError("no response within 20 cycles")


async def read(ctx: Any, dut: RegisterFile, address: int, delay: int = 0) -> int:
    await handshake(ctx, dut.axi.ar, {"addr": address})
    answer = await response(ctx, dut.axi.r, delay)
    assert answer.resp == 0
    return int(answer.data)


async def write(
    ctx: Any, dut: RegisterFile, address: int, value: int, *, strobe: int = 15,
    data_first: bool = False, delay: int = 0,
) -> None:
    channels = [(dut.axi.aw, {"addr": address}), (dut.axi.w, {"data": value, "strb": strobe})]
    if data_first:
        channels.reverse()
    for channel, payload in channels:
        await handshake(ctx, channel, payload, delay)
    assert (await response(ctx, dut.axi.b, delay)).resp == 0


async def read_register(ctx: Any, dut: RegisterFile, name: str) -> int:
    register = REGISTERS[name]
    value = 0
    for part in range(register.words):
        value |= await read(ctx, dut, register.address + 4 * part) << 32 * part
    return value


def test_constants_inputs_and_counters_read_back_by_name() -> None:
    dut = RegisterFile(config=TINY)
    rng = random.Random(1)

    async def bench(ctx: Any) -> None:
        for name, value in CONSTANTS.items():
            assert await read_register(ctx, dut, name) == value
        expected = {register.name: rng.getrandbits(32 * register.words) for register in INPUTS}
        counters = [rng.getrandbits(48) for _ in COUNTERS]
        ctx.set(dut.counters, counters)
        for name, value in expected.items():
            ctx.set(getattr(dut, name), value)
        for name, value in {**expected, **dict(zip(COUNTER_NAMES, counters, strict=True))}.items():
            assert await read_register(ctx, dut, name) == value, name
        assert await read_register(ctx, dut, "control") == 0

    simulate(dut, bench)


@pytest.mark.parametrize("data_first", [False, True])
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_configuration_registers_hold_what_was_written(data_first: bool, delay: int) -> None:
    dut = RegisterFile(config=TINY)
    rng = random.Random(delay)

    async def bench(ctx: Any) -> None:
        expected = {register.name: rng.getrandbits(32 * register.words) for register in WRITABLE}
        for register in WRITABLE:
            for part in range(register.words):
                value = expected[register.name] >> 32 * part & 0xFFFF_FFFF
                await write(ctx, dut, register.address + 4 * part, value,
                            data_first=data_first, delay=delay)
        for name, value in expected.items():
            assert await read_register(ctx, dut, name) == value
            assert ctx.get(getattr(dut, name)) == value

    simulate(dut, bench)


def test_byte_strobes_select_bytes() -> None:
    dut = RegisterFile(config=TINY)
    address = REGISTERS["watchdog"].address

    async def bench(ctx: Any) -> None:
        await write(ctx, dut, address, 0x11223344)
        await write(ctx, dut, address, 0xAABBCCDD, strobe=0b0101)
        assert await read(ctx, dut, address) == 0x11BB33DD
        await write(ctx, dut, REGISTERS["control"].address, 0xFF, strobe=0b1110)

    async def no_pulse(ctx: Any) -> None:
        while True:
            *_, start, reset = await ctx.tick().sample(dut.start, dut.reset)
            assert (start, reset) == (0, 0)

    simulate(dut, bench, background=[no_pulse])


def test_unknown_and_read_only_addresses_ignore_writes() -> None:
    dut = RegisterFile(config=TINY)
    used = {register.address + 4 * part
            for register in REGISTERS.values() for part in range(register.words)}

    async def bench(ctx: Any) -> None:
        for address in sorted({*range(0, 0x200, 4), 0xFFC} - used):
            await write(ctx, dut, address, 0xFFFF_FFFF)
            assert await read(ctx, dut, address) == 0, hex(address)
        await write(ctx, dut, REGISTERS["identifier"].address, 0)
        assert await read_register(ctx, dut, "identifier") == IDENTIFIER
        for register in WRITABLE:
            assert ctx.get(getattr(dut, register.name)) == 0

    simulate(dut, bench)


def test_high_half_is_that_of_the_moment_the_low_half_was_read() -> None:
    dut = RegisterFile(config=TINY)
    address = REGISTERS["cycles"].address

    async def bench(ctx: Any) -> None:
        ctx.set(dut.counters[0], 0x1_FFFF_FFFF)
        assert await read(ctx, dut, address) == 0xFFFF_FFFF
        ctx.set(dut.counters[0], 0x2_0000_0000)
        assert await read(ctx, dut, REGISTERS["status"].address) == 0
        assert await read(ctx, dut, address + 4) == 1
        assert await read(ctx, dut, address + 4) == 2

    simulate(dut, bench)


def test_control_bits_are_single_pulses() -> None:
    dut = RegisterFile(config=TINY)
    pulses = {"start": 0, "reset": 0}

    async def bench(ctx: Any) -> None:
        address = REGISTERS["control"].address
        await write(ctx, dut, address, Control.START)
        assert pulses == {"start": 1, "reset": 0}
        await write(ctx, dut, address, Control.RESET, delay=3)
        assert pulses == {"start": 1, "reset": 1}
        await write(ctx, dut, address, 0)
        await ctx.tick()
        assert pulses == {"start": 1, "reset": 1}

    async def count(ctx: Any) -> None:
        while True:
            *_, start, reset = await ctx.tick().sample(dut.start, dut.reset)
            pulses["start"] += start
            pulses["reset"] += reset

    simulate(dut, bench, background=[count])


def test_interrupts_are_set_by_events_masked_by_enable_and_cleared_by_ones() -> None:
    dut = RegisterFile(config=TINY)
    status = REGISTERS["interrupt_status"].address

    async def pulse(ctx: Any, event: Any) -> None:
        ctx.set(event, 1)
        await ctx.tick()
        ctx.set(event, 0)
        await ctx.tick().repeat(2)

    async def bench(ctx: Any) -> None:
        await pulse(ctx, dut.done_event)
        assert await read(ctx, dut, status) == Interrupt.DONE
        assert not ctx.get(dut.irq)
        await write(ctx, dut, REGISTERS["interrupt_enable"].address, Interrupt.DONE)
        await ctx.tick()
        assert ctx.get(dut.irq)
        await pulse(ctx, dut.fault_event)
        await write(ctx, dut, status, Interrupt.DONE)
        assert await read(ctx, dut, status) == Interrupt.FAULT
        assert not ctx.get(dut.irq)
        await write(ctx, dut, REGISTERS["interrupt_enable"].address, Interrupt.FAULT)
        await ctx.tick()
        assert ctx.get(dut.irq)
        for event in (0, 1):  # one of the same cycle is cleared, too
            ctx.set(dut.interrupt_clear, 1)
            ctx.set(dut.done_event, event)
            await ctx.tick()
            ctx.set(dut.interrupt_clear, 0)
            ctx.set(dut.done_event, 0)
            await ctx.tick()
            assert await read(ctx, dut, status) == 0
            assert not ctx.get(dut.irq)

    simulate(dut, bench)


MOST_CYCLES = (1 << COMPLETION_CYCLES_BITS) - 1


@pytest.mark.parametrize("cycles", [0, 12345, MOST_CYCLES - 1, MOST_CYCLES, MOST_CYCLES + 1,
                                    1 << 40, (1 << 48) - 1])
def test_completion_is_the_pending_interrupts_and_the_cycles_as_far_as_they_fit(
    cycles: int,
) -> None:
    dut = RegisterFile(config=TINY)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.counters, [cycles, *[MOST_CYCLES] * (len(COUNTERS) - 1)])
        expected = min(cycles, MOST_CYCLES) << COMPLETION_CYCLES_OFFSET
        assert await read_register(ctx, dut, "completion") == expected
        for event, bit in ((dut.done_event, Interrupt.DONE), (dut.fault_event, Interrupt.FAULT)):
            ctx.set(event, 1)
            await ctx.tick()
            ctx.set(event, 0)
            assert await read_register(ctx, dut, "completion") == expected | bit
            await write(ctx, dut, REGISTERS["interrupt_status"].address, bit)

    simulate(dut, bench)


def test_counters_count_their_events_only_while_running() -> None:
    dut = Counters()
    rng = random.Random(5)
    expected = [0] * len(COUNTERS)

    async def bench(ctx: Any) -> None:
        for cycle in range(200):
            events, running = rng.getrandbits(len(COUNTERS)), int(cycle % 50 < 30)
            ctx.set(dut.events, events)
            ctx.set(dut.running, running)
            for index in range(len(COUNTERS)):
                expected[index] += running & events >> index
            await ctx.tick()
        ctx.set(dut.running, 0)
        await ctx.tick()
        assert [ctx.get(dut.values[index]) for index in range(len(COUNTERS))] == expected
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert [ctx.get(dut.values[index]) for index in range(len(COUNTERS))] == [0] * len(COUNTERS)

    simulate(dut, bench)
