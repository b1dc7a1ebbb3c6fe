"""Hundreds of runs with something broken: each raises or is exact, none hangs, none leaks.

The reference is the integer graph. What is broken is drawn from seeds, so that a failure repeats.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.driver.cases import CONFIG, MEMORY_BYTES, Case, FaultyDevice, layer_case

from pliant.driver.accelerator import Accelerator
from pliant.driver.core import RESET_LIMIT_CYCLES
from pliant.driver.faults import DriverError
from pliant.spec.program import ProgramError, Segment

RUNS = 20
"""Of each kind."""

SILENT_RUNS = 6
"""Of kinds where a reset waits for its limit: a hundred thousand cycles each."""

LIMIT = 20_000
"""Cycles; the programs take hundreds to thousands."""

LONGEST = 3 * (LIMIT + 3 * RESET_LIMIT_CYCLES)
"""Cycles that a call may take: three images, each a run, its driver's limit, and resets."""


class Interrupted(KeyboardInterrupt):
    """The user pressed Ctrl-C."""


class Bench:
    """One device and one accelerator that checks the program in memory before accepting results."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.device = FaultyDevice.of(CONFIG, memory_bytes=MEMORY_BYTES, coherent=False)
        self.accelerator = Accelerator(self.device, CONFIG, limit_cycles=LIMIT, verify="run")
        self.cases = [layer_case(seed) for seed in range(4)]
        self.case: Case = self.cases[0]
        self.seen = Counter[str]()

    def trial(self, breaks: Callable[[Bench], None], images: int) -> str:
        """Break something, run, and return what came of it: "exact" or the exception's name."""
        self.case = self.random.choice(self.cases)
        self.accelerator.load(self.case.program)
        start = self.device.core.statistics().cycle
        try:
            breaks(self)
            result = self.accelerator.run(*(value[:images] for value in self.case.inputs))
        except (DriverError, ProgramError, Interrupted) as error:
            outcome = getattr(error, "code", error)
            name = getattr(outcome, "name", type(outcome).__name__)
        else:
            assert self.case.is_exact(result), "a wrong answer was accepted"
            name = "exact"
        assert self.device.core.statistics().cycle - start < LONGEST, "it all but hung"
        self.device.heal()
        self.accelerator.limit_cycles = LIMIT
        self.accelerator.load(self.case.program)
        self.case.run_exactly(self.accelerator, 2)
        self.seen[name] += 1
        return name

    def bursts(self, channel: str) -> int:
        """Return how many bursts one run of the case takes."""
        before = self.device.core.statistics()
        self.case.run_exactly(self.accelerator)
        after = self.device.core.statistics()
        name = f"{channel}_bursts"
        return int(getattr(after, name) - getattr(before, name))

    def cycles(self) -> int:
        return self.accelerator.run(*(value[:1] for value in self.case.inputs)).cycles[0]

    def flip(self, area: str) -> None:
        """Flip one to three bits of the program in DDR memory."""
        image, program = self.accelerator.image, self.case.program
        address, data = {
            "instructions": (image.program_base, program.instructions),
            "constants": (image.segment_bases[Segment.CONSTANTS], program.constants),
        }[area]
        memory = self.device.memory
        bits = self.random.sample(range(8 * len(data)), self.random.randint(1, 3))
        for bit in bits:
            memory.device_bytes[address - memory.base + bit // 8] ^= 1 << bit % 8


def bus_error(channel: str) -> Callable[[Bench], None]:
    def breaks(bench: Bench) -> None:
        bench.device.core.inject_fault(
            channel, bench.random.choice(["SLVERR", "DECERR"]),  # type: ignore[arg-type]
            burst=bench.random.randrange(bench.bursts(channel)))
    return breaks


def silence(channel: str) -> Callable[[Bench], None]:
    def breaks(bench: Bench) -> None:
        burst = bench.random.randrange(bench.bursts(channel))
        bench.device.core.inject_fault(channel, "SILENCE", burst=burst)  # type: ignore[arg-type]
    return breaks


def flip(area: str) -> Callable[[Bench], None]:
    return lambda bench: bench.flip(area)


def flip_while_running(area: str) -> Callable[[Bench], None]:
    def breaks(bench: Bench) -> None:
        bench.device.disturb = (bench.random.randrange(bench.cycles()), lambda: bench.flip(area))
    return breaks


def damaged_file(bench: Bench) -> None:
    """Load a file with flipped bits or without its end."""
    data = bytearray(bench.case.program.contents())
    if bench.random.random() < 0.25:
        del data[bench.random.randrange(len(data)):]
    else:
        for _ in range(bench.random.randint(1, 3)):
            data[bench.random.randrange(len(data))] ^= 1 << bench.random.randrange(8)
    # What is loaded all the same, for the flip hit a date in the archive, is the program.
    assert bench.accelerator.load(bytes(data)) == bench.case.program


def forged_file(bench: Bench) -> None:
    """Load an archive whose checksums are right and whose instructions or constants are not."""
    with zipfile.ZipFile(io.BytesIO(bench.case.program.contents())) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    data = members[bench.random.choice(["instructions.bin", "constants.bin"])]
    data[bench.random.randrange(len(data))] ^= 1 << bench.random.randrange(8)
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, bytes(member))
    bench.accelerator.load(forged.getvalue())


def lost_interrupt(bench: Bench) -> None:
    bench.device.lose_interrupts = True


def short_limit(bench: Bench) -> None:
    bench.accelerator.limit_cycles = bench.random.randrange(1, bench.cycles())


def reset_while_running(bench: Bench) -> None:
    cycle = bench.random.randrange(bench.cycles())
    bench.device.disturb = (cycle, bench.accelerator.core.reset)


def interrupt_while_running(bench: Bench) -> None:
    def press() -> None:
        raise Interrupted

    bench.device.disturb = (bench.random.randrange(bench.cycles()), press)


def exhausted_memory(bench: Bench) -> None:
    bench.device.allocations_left = bench.random.randrange(5)
    bench.accelerator.load(bench.random.choice(
        [case for case in bench.cases if case is not bench.case]).program)


KINDS: dict[str, Callable[[Bench], None]] = {
    "read error": bus_error("read"),
    "write error": bus_error("write"),
    "reads unanswered": silence("read"),
    "writes unanswered": silence("write"),
    "instructions flipped": flip("instructions"),
    "constants flipped": flip("constants"),
    "instructions flipped in mid-run": flip_while_running("instructions"),
    "constants flipped in mid-run": flip_while_running("constants"),
    "file damaged": damaged_file,
    "file forged": forged_file,
    "interrupt lost": lost_interrupt,
    "watchdog": short_limit,
    "reset in mid-run": reset_while_running,
    "Ctrl-C in mid-run": interrupt_while_running,
    "memory exhausted": exhausted_memory,
}

ALWAYS_RAISE = {"instructions flipped", "constants flipped", "file forged", "interrupt lost",
                "watchdog", "Ctrl-C in mid-run", "memory exhausted", "write error",
                "writes unanswered"}
"""Kinds that no run survives; the others may come too late or miss what is used."""


def runs_of(kind: str) -> int:
    return SILENT_RUNS if kind.endswith("unanswered") else RUNS


@contextmanager
def bench_of(seed: int) -> Iterator[Bench]:
    bench = Bench(seed)
    try:
        yield bench
    finally:
        bench.accelerator.close()
        assert not bench.device.memory.live, "buffers were leaked"
        bench.device.close()


@pytest.mark.parametrize("kind", KINDS)
def test_broken_runs_raise_or_are_exact_and_the_next_is_exact(kind: str) -> None:
    seed = 1 + [*KINDS].index(kind)
    with bench_of(seed) as bench:
        for run in range(runs_of(kind)):
            bench.trial(KINDS[kind], images=1 + run % 3)
        print(f"seed {seed}, {kind}: {dict(sorted(bench.seen.items()))}")
        assert sum(bench.seen.values()) == runs_of(kind)
        assert set(bench.seen) != {"exact"}, "nothing was broken"
        if kind in ALWAYS_RAISE:
            assert not bench.seen["exact"], dict(bench.seen)


def test_all_kinds_make_more_than_two_hundred_runs() -> None:
    assert sum(map(runs_of, KINDS)) > 200


def test_the_reference_is_not_what_the_program_gives_by_itself() -> None:
    """A wrong expectation must fail a trial: the comparison sees every output of every image."""
    case = layer_case(0)
    wrong = {name: value ^ np.int8(1) for name, value in case.expected.items()}
    with bench_of(0) as bench:
        bench.cases = [Case(case.program, case.inputs, wrong)]
        with pytest.raises(AssertionError, match="a wrong answer was accepted"):
            bench.trial(lambda bench: None, images=1)
