"""The dispatcher: legality, order, tokens, faults, completion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from amaranth import ResetInserter, Signal

from pliant.spec.config import PRESETS, AcceleratorConfig
from pliant.spec.decoding import decode
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    MAX_TOKENS,
    End,
    Instruction,
    InstructionError,
    Load,
    Matrix,
    Post,
    Store,
    Target,
    Unit,
    fields,
)
from pliant.spec.registers import Fault, FaultUnit
from pliant.spec.rules import AtMost, Multiple, When, value_of
from pliant.spec.sampling import Offsets
from pliant_hw.dispatch import IN_FLIGHT, UNIT_INSTRUCTIONS, Dispatcher
from pliant_sim.benches.random_instructions import breaking_instruction, legal_instruction
from pliant_sim.benches.simulate import simulate

CONFIG = PRESETS["tiny"]
NAMES = [unit.name.lower() for unit in Unit]
QUICKEST = 3
"""Cycles from start to completion of the quickest instruction."""


def boundaries() -> Iterator[int]:
    """Yield instruction words with one field at or just past each end of its range."""
    for kind in INSTRUCTIONS:
        template = int.from_bytes(kind().encode(), "little")
        yield template
        end = 12
        for field in fields(kind):
            end = field.offset + field.width
            values = {0, 1, field.minimum, field.minimum - 1, field.maximum, field.maximum + 1,
                      1 << (field.width - 1)}
            if field.depth is not None:
                limit = getattr(CONFIG, field.depth)
                values |= {limit - 1, limit, limit + 1}
            for value in values:
                mask = ((1 << field.width) - 1) << field.offset
                yield template & ~mask | (value << field.offset & mask)
        for position in {end, end + 1, 511} - {512}:
            yield template | 1 << position
    yield from range(16)


def around_rules(config: AcceleratorConfig, random: np.random.Generator) -> Iterator[int]:
    """Yield words that break a single rule, for every rule that can be broken alone."""
    for kind in INSTRUCTIONS:
        for rule in kind.rules:
            for _ in range(3):
                found = breaking_instruction(random, kind, rule, config)
                if found is not None:
                    yield int.from_bytes(found.encode(), "little")
                elif config == CONFIG:  # it has all units; its records fill a beat
                    assert (kind, rule) == (Load, Multiple(
                        field="destination", of="parameters_per_beat",
                        when=When("target", (Target.PARAMETER,))))


def products_at_their_limits(config: AcceleratorConfig) -> Iterator[int]:
    """Yield words whose products are at and next to each limit, whatever the factors."""
    for kind in INSTRUCTIONS:
        for rule in kind.rules:
            if not isinstance(rule, AtMost) or len(rule.product) == 1:
                continue
            limit = value_of(rule.limit, config)
            when = {rule.when.field: max(rule.when.values, default=Offsets.PER_TAP)
                    } if rule.when else {}
            for width in (1, 3, 7, max(1, limit), limit + 1, 2047):
                for height in {max(1, limit // width), limit // width + 1, 2047}:
                    for more in (1, 4) if rule.product[2:] else (limit % width, 0):
                        name = rule.product[2] if rule.product[2:] else rule.plus
                        assert name is not None
                        yield int.from_bytes(kind(
                            out_height=min(height, 2047), out_width=min(width, 2047),
                            **{name: min(more, 63)}, **when).encode(), "little")


def mutations(config: AcceleratorConfig, random: np.random.Generator, count: int) -> Iterator[int]:
    """Yield legal instructions with up to three fields replaced by random bits."""
    for _ in range(count):
        kind = INSTRUCTIONS[random.integers(1, len(INSTRUCTIONS))]
        word = int.from_bytes(legal_instruction(random, kind, config).encode(), "little")
        for field in random.choice(np.array(fields(kind), object), random.integers(1, 4)):
            mask = (1 << field.width) - 1
            word = word & ~(mask << field.offset) | int(random.integers(mask + 1)) << field.offset
        yield word


def is_legal(word: int, config: AcceleratorConfig) -> bool:
    try:
        decode(word.to_bytes(INSTRUCTION_BYTES, "little")).check(config)
    except InstructionError:
        return False
    return True


@pytest.mark.parametrize("config", [CONFIG, PRESETS["pynq_z2"], PRESETS["kv260"]],
                         ids=lambda config: config.name)
def test_exactly_the_words_that_decode_and_check_are_executed(config: AcceleratorConfig) -> None:
    dut = Dispatcher(config=config)
    reset = Signal()
    random = np.random.default_rng(7)  # always the same words
    whole = config == CONFIG
    words = [*(boundaries() if whole else ()), *around_rules(config, random),
             *products_at_their_limits(config), *mutations(config, random, 400 if whole else 100)]
    illegal = [not is_legal(word, config) for word in words]
    assert len(words) / 5 < sum(illegal) < len(words) * 4 / 5

    async def main(ctx: Any) -> None:
        for name in NAMES:
            ctx.set(getattr(dut, f"{name}_instruction").ready, 1)
        for word, expected in zip(words, illegal, strict=True):
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            ctx.set(dut.program.payload, {"word": word, "index": 77})
            ctx.set(dut.program.valid, 1)
            await ctx.tick()
            ctx.set(dut.program.valid, 0)
            started = 0
            for _ in range(7):
                started += sum(ctx.get(getattr(dut, f"{name}_start")) for name in NAMES)
                started += ctx.get(dut.end)
                await ctx.tick()
            assert ctx.get(dut.fault.valid) == expected, hex(word)
            assert bool(started) != expected, hex(word)
            if expected:
                assert ctx.get(dut.fault.code) == Fault.ILLEGAL_INSTRUCTION
                assert ctx.get(dut.fault.unit) == FaultUnit.CONTROL
                assert ctx.get(dut.fault.index) == 77

    simulate(ResetInserter(reset)(dut), main)


class Run:
    """Feeds a program to a dispatcher whose units take random times; records what happens."""

    def __init__(self, program: Sequence[Instruction], seed: int = 0, slow: float = 0.0) -> None:
        self.dut = Dispatcher(config=CONFIG)
        self.program = program
        self.random = np.random.default_rng(seed)
        self.slow = slow
        self.started: dict[Unit, list[Instruction]] = {unit: [] for unit in Unit}
        self.signals: dict[Unit, list[tuple[int, int]]] = {unit: [] for unit in Unit}
        self.tokens: Counter[tuple[Unit, Unit]] = Counter()
        self.done = 0
        self.cycle = 0
        self.ended = False
        self.fault: tuple[Fault, int] | None = None
        simulate(self.dut, self._feed, self._watch,
                 background=[self._unit(unit) for unit in Unit])

    async def _feed(self, ctx: Any) -> None:
        for index, instruction in enumerate(self.program):
            word = int.from_bytes(instruction.encode(), "little")
            ctx.set(self.dut.program.payload, {"word": word, "index": index})
            ctx.set(self.dut.program.valid, 1)
            while not self.fault:
                _, _, ready = await ctx.tick().sample(self.dut.program.ready)
                if ready:
                    break
        ctx.set(self.dut.program.valid, 0)
        ctx.set(self.dut.exhausted, 1)

    async def _watch(self, ctx: Any) -> None:
        dut, progress = self.dut, 0
        while not self.ended and not self.fault:
            before = self.done
            _, _, ended, fault, code, index = await ctx.tick().sample(
                dut.end, dut.fault.valid, dut.fault.code, dut.fault.index)
            self.cycle += 1
            if self.done != before:
                progress = self.cycle
            self.ended = bool(ended)
            if fault:
                self.fault = (Fault(code), index)
            assert self.cycle - progress < 4 * MAX_TOKENS, "the dispatcher hangs"

    def _unit(self, unit: Unit) -> Any:
        dut, name = self.dut, NAMES[unit]
        port, start = getattr(dut, f"{name}_instruction"), getattr(dut, f"{name}_start")

        async def run(ctx: Any) -> None:
            done = getattr(dut, f"{name}_done")
            while True:
                ready = self.random.random() >= self.slow
                complete = self._oldest(unit) >= QUICKEST and self.random.random() >= self.slow
                ctx.set(port.ready, int(ready))
                ctx.set(done, int(complete))
                _, _, started, payload = await ctx.tick().sample(start, port.payload)
                if started:
                    self._start(unit, payload)
                if complete:
                    self._complete(unit)

        return run

    def _oldest(self, unit: Unit) -> int:
        """Return the cycles since the oldest instruction was started, 0 if there is none."""
        return self.cycle - self.signals[unit][0][1] if self.signals[unit] else 0

    def _start(self, unit: Unit, payload: Any) -> None:
        instruction = self.program[payload.index]
        kind = UNIT_INSTRUCTIONS[unit]
        assert type(instruction) is kind
        values = {field.name: int(payload[field.name]) for field in fields(kind)}
        assert values == {name: int(getattr(instruction, name)) for name in values}
        for source in Unit:
            if instruction.wait >> source & 1:
                self.tokens[source, unit] -= 1
                assert self.tokens[source, unit] >= 0, f"{unit} starts without its token"
        self.started[unit].append(instruction)
        self.signals[unit].append((instruction.signal, self.cycle))
        assert len(self.signals[unit]) <= IN_FLIGHT

    def _complete(self, unit: Unit) -> None:
        signal, _ = self.signals[unit].pop(0)
        self.done += 1
        for target in Unit:
            self.tokens[unit, target] += signal >> target & 1


def random_program(random: np.random.Generator, length: int) -> list[Instruction]:
    """Return a program that runs through in program order, with tokens of every pair."""
    kinds = [Load, Matrix, Post, Store]
    tokens: Counter[tuple[Unit, Unit]] = Counter()
    program: list[Instruction] = []
    for _ in range(length):
        kind = kinds[random.integers(4)]
        unit = kind.unit
        assert unit is not None
        wait = sum(1 << source for source in Unit
                   if tokens[source, unit] and random.random() < 0.6)
        signal = int(random.integers(16))
        for other in Unit:
            tokens[other, unit] -= wait >> other & 1
        for other in Unit:
            tokens[unit, other] += signal >> other & 1
        program.append(legal_instruction(random, kind, CONFIG, wait=wait, signal=signal))
    return [*program, End()]


def test_instructions_start_in_order_with_their_tokens_and_end_comes_last() -> None:
    for seed in range(3):
        print(f"{seed=}")
        random = np.random.default_rng(seed)
        program = random_program(random, 90)
        run = Run(program, seed, slow=(0.0, 0.5, 0.9)[seed])
        assert run.ended
        assert not run.fault
        assert run.done == len(program) - 1
        for unit, kind in UNIT_INSTRUCTIONS.items():
            assert run.started[unit] == [i for i in program if type(i) is kind]


def test_255_pending_tokens_are_fine_and_one_more_is_a_fault() -> None:
    matrix, store = 1 << Unit.MATRIX, 1 << Unit.STORE
    loads: list[Instruction] = [Load(signal=matrix)] * (MAX_TOKENS - 1)
    # The first Matrix starts when all tokens are pending.
    loads += [Load(signal=matrix | store), Store(wait=1 << Unit.LOAD, signal=matrix)]
    first = Matrix(wait=1 << Unit.LOAD | 1 << Unit.STORE)
    rest: list[Instruction] = [Matrix(wait=1 << Unit.LOAD)] * (MAX_TOKENS - 1)
    run = Run([*loads, first, *rest, End()])
    assert run.ended
    assert not run.fault
    run = Run([*loads, Load(signal=matrix), *[Store()] * 20, End()])
    assert run.fault is not None
    assert run.fault[0] == Fault.TOKEN_OVERFLOW


def test_a_unit_gets_no_more_instructions_than_may_be_in_flight() -> None:
    dut = Dispatcher(config=CONFIG)

    async def main(ctx: Any) -> None:
        port: Any = dut
        ctx.set(port.load_instruction.ready, 1)
        word = int.from_bytes(Load().encode(), "little")
        ctx.set(dut.program.payload, {"word": word, "index": 0})
        ctx.set(dut.program.valid, 1)
        started = 0
        for _ in range(10 * IN_FLIGHT):
            started += ctx.get(port.load_start)
            await ctx.tick()
        assert started == IN_FLIGHT

    simulate(dut, main)


def test_a_program_without_end_is_a_fault() -> None:
    run = Run([Load(), Post()])
    assert run.fault == (Fault.PROGRAM_END, 1)
    assert not run.ended


def test_halt_hands_out_nothing() -> None:
    dut = Dispatcher(config=CONFIG)

    async def main(ctx: Any) -> None:
        ctx.set(dut.load_instruction.ready, 1)
        ctx.set(dut.halt, 1)
        word = int.from_bytes(Load().encode(), "little")
        ctx.set(dut.program.payload, {"word": word, "index": 0})
        ctx.set(dut.program.valid, 1)
        for _ in range(60):
            await ctx.tick()
            assert not ctx.get(dut.load_start)
        ctx.set(dut.halt, 0)
        await ctx.tick().until(dut.load_start)

    simulate(dut, main)
