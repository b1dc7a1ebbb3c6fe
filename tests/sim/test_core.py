"""The harness on a core that only copies, and that can be told to break the rules of AXI."""

import concurrent.futures
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pliant.spec.config import preset
from pliant.spec.isa import Unit
from pliant.spec.registers import IDENTIFIER
from pliant_sim.core import MemoryTiming, ProtocolError, RtlCore, RtlError, SimulationTimeout

CONFIG = preset("tiny")
SOURCE = Path(__file__).with_name("copy_engine.v").read_text()
BASE, HALF = 0x1000_0000, 1 << 16
BEATS = 16
BURST_BYTES = BEATS * CONFIG.axi_data_bytes
FAST = MemoryTiming(latency=1, bytes_per_cycle=0)


@pytest.fixture
def core() -> Iterator[RtlCore]:
    with RtlCore(CONFIG, timing=FAST, source=SOURCE) as made:
        yield made


def prepare(core: RtlCore, seed: int = 0) -> np.ndarray:
    memory = np.zeros(2 * HALF, np.uint8)
    memory[:HALF] = np.random.default_rng(seed).integers(0, 256, HALF, np.uint8)
    core.set_memory(memory, BASE)
    return memory


def copy(core: RtlCore, bursts: int, *, beats: int = BEATS, source: int = BASE,
         target: int = BASE + HALF, defect: int = 0, limit: int = 100_000) -> int:
    """Copy and return the cycles from start to done by the engine's counter."""
    core.write_register("interrupt_status", 3)
    core.write_register("interrupt_enable", 3)
    core.write_register("segment_0", source)
    core.write_register("segment_1", target)
    core.write_register("program_base", defect)
    core.write_register("program_length", bursts)
    core.write_register("watchdog", beats)
    core.write_register("control", 1)
    if not core.run(limit):
        raise SimulationTimeout("copy")
    return core.read_register("cycles")


def test_registers_are_written_and_read_by_name(core: RtlCore) -> None:
    assert core.read_register("identifier") == IDENTIFIER
    for value in (0, 0xDEAD_BEEF, 0xFFFF_FFFF):
        core.write_register("watchdog", value)
        assert core.read_register("watchdog") == value
    with pytest.raises(ValueError, match="'identifier' is read-only"):
        core.write_register("identifier", 0)
    with pytest.raises(ValueError, match="does not fit 1 words"):
        core.write_register("watchdog", 1 << 32)


@pytest.mark.parametrize("timing", [
    FAST,
    MemoryTiming(latency=80, bytes_per_cycle=8),
    MemoryTiming(latency=7, bytes_per_cycle=2.5, outstanding=2),
    MemoryTiming(latency=20, bytes_per_cycle=100, outstanding=1),
])
def test_a_copy_is_exact_whatever_the_timing(core: RtlCore, timing: MemoryTiming) -> None:
    core.set_timing(timing)
    memory = prepare(core)
    copy(core, 200)
    size = 200 * BURST_BYTES
    assert np.array_equal(memory[HALF:HALF + size], memory[:size])
    assert not memory[HALF + size:].any()


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_is_exact_under_random_stalls(core: RtlCore, seed: int) -> None:
    core.set_timing(dataclasses.replace(FAST, latency=5, backpressure_seed=seed))
    memory = prepare(core, seed)
    stalled = copy(core, 200)
    size = 200 * BURST_BYTES
    assert np.array_equal(memory[HALF:HALF + size], memory[:size])
    assert copy(core, 200) != stalled, "stalls go on at random"
    core.set_timing(FAST)
    assert copy(core, 200) < stalled


def test_random_stalls_are_reproducible() -> None:
    def run(seed: int) -> int:
        with RtlCore(CONFIG, source=SOURCE, timing=dataclasses.replace(
                FAST, backpressure_seed=seed)) as core:
            prepare(core)
            return copy(core, 100)

    assert run(3) == run(3) != run(4)


def test_latency_is_counted_from_address_to_first_beat(core: RtlCore) -> None:
    prepare(core)
    cycles = {}
    for latency in (1, 2, 50):
        core.set_timing(dataclasses.replace(FAST, latency=latency))
        cycles[latency] = copy(core, 1)
    # One read and one write response, each waits for the latency.
    assert cycles[2] - cycles[1] == 2
    assert cycles[50] - cycles[1] == 98


@pytest.mark.parametrize("rate", [1.5, 4, 8, 12, 16])
def test_reads_and_writes_share_the_bandwidth(core: RtlCore, rate: float) -> None:
    prepare(core)
    core.set_timing(MemoryTiming(latency=4, bytes_per_cycle=rate))
    cycles = copy(core, 400)
    ideal = 2 * 400 * BURST_BYTES / rate
    assert ideal * 0.98 < cycles < ideal * 1.05 + 100


def test_with_interleaving_data_of_different_ids_mix(core: RtlCore) -> None:
    core.set_timing(MemoryTiming(latency=10, bytes_per_cycle=0, interleave=True))
    memory = prepare(core)
    copy(core, 50)
    size = 50 * BURST_BYTES
    # The engine does not sort by ID, so what it wrote is a permutation of the beats.
    source, target = memory[:size].view(np.uint64), memory[HALF:HALF + size].view(np.uint64)
    assert not np.array_equal(source, target)
    assert np.array_equal(np.sort(source), np.sort(target))
    for parity in (0, 1):  # within an ID the order stands
        own = source.reshape(-1, BEATS)[parity::2].reshape(-1)
        assert np.array_equal(target[np.isin(target, own)], own)


def test_a_write_is_seen_no_earlier_than_its_response(core: RtlCore) -> None:
    core.set_timing(dataclasses.replace(FAST, latency=1000))
    memory = prepare(core)
    with pytest.raises(SimulationTimeout):
        copy(core, 1, limit=1500)
    assert core.statistics().write_beats == BEATS
    assert not memory[HALF:].any()
    assert core.run(1000)
    assert np.array_equal(memory[HALF:HALF + BURST_BYTES], memory[:BURST_BYTES])


@pytest.mark.parametrize(("defect", "rule"), [
    (1, "AR: valid retracted"), (2, "AR: payload changed"), (9, "AW: valid retracted"),
    (3, "W: valid retracted"), (4, "W: payload changed"),
    (5, "W: last is 1 on beat 15 of 16"), (6, "AR: size 0"), (7, "AR: burst type 0"),
])
def test_a_broken_rule_of_axi_is_reported(core: RtlCore, defect: int, rule: str) -> None:
    core.set_timing(dataclasses.replace(FAST, backpressure_seed=1))
    prepare(core)
    with pytest.raises(ProtocolError, match=rule):
        copy(core, 200, defect=defect)
    core.power_on()
    memory = prepare(core, 5)
    copy(core, 3)
    assert np.array_equal(memory[HALF:HALF + 3 * BURST_BYTES], memory[:3 * BURST_BYTES])


def test_a_burst_across_a_page_boundary_is_reported(core: RtlCore) -> None:
    prepare(core)
    with pytest.raises(ProtocolError, match=r"AR: burst of 16 beats at 0x10000fc0 crosses"):
        copy(core, 1, source=BASE + 4096 - 64)
    core.power_on()
    with pytest.raises(ProtocolError, match=r"AR: address 0x10000004 is not aligned"):
        copy(core, 1, source=BASE + 4)


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
def test_the_nth_burst_fails_and_only_that(core: RtlCore, response: str) -> None:
    memory = prepare(core)
    core.inject_fault("write", response, burst=2)
    copy(core, 4)
    assert core.read_register("fault_code") == 4
    written = memory[HALF:].reshape(-1, BURST_BYTES)
    assert [bool(written[burst].any()) for burst in range(5)] == [True, True, False, True, False]
    core.write_register("control", 2)
    core.clear_faults()
    core.inject_fault("read", response, burst=0)
    copy(core, 2)
    assert core.read_register("fault_code") == 3
    assert (written[0] == 0xA5).all()
    assert np.array_equal(written[1], memory[BURST_BYTES:2 * BURST_BYTES])


def test_an_address_range_fails(core: RtlCore) -> None:
    prepare(core)
    bad = (BASE + 5 * BURST_BYTES, BASE + 5 * BURST_BYTES + 1)
    core.inject_fault("read", "SLVERR", addresses=bad)
    copy(core, 5)
    assert core.read_register("fault_code") == 0
    copy(core, 6)
    assert core.read_register("fault_code") == 3


@pytest.mark.parametrize("place", [{"source": BASE - 4096}, {"source": BASE + 2 * HALF},
                                   {"target": BASE + 2 * HALF}, {"source": 0}])
def test_an_address_outside_memory_gets_decerr(core: RtlCore, place: dict[str, int]) -> None:
    memory = prepare(core)
    copy(core, 1, **place)
    assert core.read_register("fault_code") == (4 if "target" in place else 3)
    assert core.read_register("status") == 4
    if "target" in place:
        assert not memory[HALF:].any()


@pytest.mark.parametrize("channel", ["read", "write"])
def test_a_silent_memory_answers_once_it_is_healed(core: RtlCore, channel: str) -> None:
    memory = prepare(core)
    core.inject_fault(channel, "SILENCE", burst=3)
    with pytest.raises(SimulationTimeout):
        copy(core, 6, limit=5000)
    core.clear_faults()
    assert core.run(1000)
    assert np.array_equal(memory[HALF:HALF + 6 * BURST_BYTES], memory[:6 * BURST_BYTES])


def test_a_run_ends_after_the_cycles_it_is_given(core: RtlCore) -> None:
    prepare(core)
    before = core.statistics().cycle
    assert not core.run(12_345)
    assert core.statistics().cycle == before + 12_345
    with pytest.raises(SimulationTimeout):
        copy(core, 1, defect=8, limit=1000)


def test_events_are_recorded_on_demand(core: RtlCore) -> None:
    prepare(core)
    core.trace(8)
    cycles = copy(core, 1)
    events = list(core.events())
    assert [(e.unit, e.done) for e in events] == [
        (Unit.LOAD, False), (Unit.STORE, False), (Unit.LOAD, True), (Unit.STORE, True)]
    assert events[3].cycle - events[0].cycle == cycles
    core.trace(3)
    copy(core, 1)
    with pytest.raises(RtlError, match="4 events happened, trace\\(\\) left room for 3"):
        list(core.events())
    core.trace(0)
    copy(core, 1)
    assert list(core.events()) == []
    assert core.statistics().finished == (3, 0, 0, 3)


def test_instances_run_in_threads_without_disturbing_each_other() -> None:
    def run(seed: int) -> tuple[int, bool]:
        timing = MemoryTiming(latency=9, bytes_per_cycle=5, backpressure_seed=seed)
        with RtlCore(CONFIG, timing=timing, source=SOURCE) as core:
            memory = prepare(core, seed)
            cycles = copy(core, 300)
            size = 300 * BURST_BYTES
            return cycles, np.array_equal(memory[HALF:HALF + size], memory[:size])

    alone = [run(seed) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == alone
    assert all(exact for _, exact in alone)

