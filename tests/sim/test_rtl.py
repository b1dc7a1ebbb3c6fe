"""Programs on the RTL: exact results, faults and recovery, time limits, traces."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.spec.config import ISA_VERSION, preset
from pliant.spec.decoding import decode_program
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    End,
    Instruction,
    Load,
    Matrix,
    Store,
    Unit,
)
from pliant.spec.program import Program, ProgramError
from pliant.spec.registers import Fault, FaultUnit, Status
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim.rtl import HardwareFault, MemoryTiming, RtlError, RtlMachine, SimulationTimeout
from pliant_sim.trace import spans, write_trace

CONFIG = preset("tiny")
SEEDS = range(4)


@dataclasses.dataclass
class Case:
    graph: Graph
    program: Program
    inputs: list[NDArray[np.int8]]
    expected: dict[str, NDArray[np.int8]]

    def run_exactly(self, machine: RtlMachine) -> None:
        result = machine.run(self.program, self.inputs)
        for info, value in zip(self.program.outputs, result.outputs, strict=True):
            assert np.array_equal(value, self.expected[info.name]), (self.graph.name, info.name)

    def with_instructions(self, instructions: list[Instruction]) -> Program:
        return dataclasses.replace(
            self.program, instructions=b"".join(item.encode() for item in instructions))


def make_case(seed: int) -> Case:
    graph = random_layer(seed, multiplier_bits=CONFIG.multiplier_bits)
    batch = random_inputs(graph, seed, images=1)
    values = evaluate(graph, batch, multiplier_bits=CONFIG.multiplier_bits)
    return Case(graph, compile_graph(graph, CONFIG, keep_tensors=True),
                [batch[tensor.name][0] for tensor in graph.inputs],
                {name: value[0] for name, value in values.items()})


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [make_case(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def shared() -> Iterator[RtlMachine]:
    with RtlMachine(CONFIG) as machine:
        yield machine


@pytest.fixture
def machine(shared: RtlMachine) -> Iterator[RtlMachine]:
    """The shared machine, idle and healthy before and after."""
    yield shared
    shared.core.clear_faults()
    shared.core.set_timing(MemoryTiming.of_board(CONFIG))
    shared.core.write_register("watchdog", 0)
    shared.reset()


def test_results_are_exact_in_any_order_of_programs(
    machine: RtlMachine, cases: list[Case]
) -> None:
    for case in (*cases, cases[0], cases[0], cases[2]):
        case.run_exactly(machine)


@pytest.mark.parametrize("seed", range(4))
def test_results_are_exact_under_stalls_and_mixed_read_data(
    machine: RtlMachine, cases: list[Case], seed: int
) -> None:
    machine.core.set_timing(MemoryTiming(latency=3, bytes_per_cycle=0, interleave=True,
                                         backpressure_seed=seed))
    for case in cases:
        case.run_exactly(machine)


def test_every_tensor_in_memory_is_exact_until_the_next_run(
    machine: RtlMachine, cases: list[Case]
) -> None:
    case = cases[0]
    result = machine.run(case.program, case.inputs)
    kept = case.program.kept
    assert kept
    for info in kept:
        assert np.array_equal(result.tensor(info.name), case.expected[info.name])
    for info, value in zip(case.program.inputs, case.inputs, strict=True):
        assert np.array_equal(result.tensor(info.name), info.arrange(value))
    with pytest.raises(KeyError, match="no tensor is called 'absent'"):
        result.tensor("absent")
    machine.run(case.program, case.inputs)
    with pytest.raises(RtlError, match="has run again"):
        result.tensor(kept[0].name)


def test_a_repeated_program_is_not_written_again(machine: RtlMachine, cases: list[Case]) -> None:
    case = cases[1]
    machine.run(case.program, case.inputs)
    image = machine.image
    writes = machine.core.statistics().cycle
    result = machine.run(case.program, [np.zeros_like(value) for value in case.inputs])
    assert machine.image is image
    overhead = machine.core.statistics().cycle - writes - result.cycles
    assert overhead < 1000
    zeros = evaluate(case.graph, {
        tensor.name: np.zeros((1, *tensor.shape), np.int8) for tensor in case.graph.inputs
    }, multiplier_bits=CONFIG.multiplier_bits)
    for name, value in zip(case.graph.outputs, result.outputs, strict=True):
        assert np.array_equal(value, zeros[name][0])


def test_counters_and_times_agree(machine: RtlMachine, cases: list[Case]) -> None:
    before = machine.core.statistics()
    result = machine.run(cases[0].program, cases[0].inputs)
    after = machine.core.statistics()
    assert result.counters["read_beats"] == after.read_beats - before.read_beats
    assert result.counters["write_beats"] == after.write_beats - before.write_beats
    assert 0 < result.simulated_cycles - result.cycles < 50
    assert result.counters["cycles"] == result.cycles
    assert result.cpu_seconds > 0
    assert result.events == ()


def test_a_trace_holds_every_instruction(
    machine: RtlMachine, cases: list[Case], tmp_path: Path
) -> None:
    case = cases[0]
    result = machine.run(case.program, case.inputs, trace=True)
    found = list(spans(case.program, result.events))
    assert sorted(span.index for span in found) == [
        index for index, item in enumerate(case.program.decoded()) if not isinstance(item, End)]
    assert all(0 <= span.start < span.end <= result.cycles + 50 for span in found)
    stores = [span for span in found if span.unit is Unit.STORE]
    assert stores
    assert all(first.start < stores[-1].end for first in found)
    write_trace(tmp_path / "run.pftrace", case.program, CONFIG, result.events)


def test_machines_in_threads_do_not_disturb_each_other(cases: list[Case]) -> None:
    def run(case: Case) -> int:
        with RtlMachine(CONFIG) as machine:
            case.run_exactly(machine)
            return machine.run(case.program, case.inputs).cycles

    alone = [run(case) for case in cases]
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        assert list(pool.map(run, cases)) == alone


def test_what_does_not_fit_the_program_is_refused(
    machine: RtlMachine, cases: list[Case]
) -> None:
    case = cases[0]
    with pytest.raises(ValueError, match=r"inputs \(.*\), found 0"):
        machine.run(case.program, [])
    with pytest.raises(ValueError, match=r"allowed is int8"):
        machine.run(case.program, [np.zeros((1, 1, 1), np.int8) for _ in case.inputs])
    foreign = dataclasses.replace(case.program, fingerprint=1, config_name="other")
    with pytest.raises(ProgramError, match="'other'"):
        machine.run(foreign, case.inputs)
    case.run_exactly(machine)


def test_a_core_of_another_configuration_is_refused() -> None:
    source = Path(__file__).with_name("copy_engine.v").read_text()
    engine = source.replace("12'h04: s_axi_rdata <= 1;", f"12'h04: s_axi_rdata <= {ISA_VERSION};")
    with pytest.raises(RtlError, match="register 'fingerprint' of the core reads 0x0"):
        RtlMachine(CONFIG, source=engine)


def provoke(machine: RtlMachine, case: Case, program: Program) -> HardwareFault:
    with pytest.raises(HardwareFault) as caught:
        machine.run(program, case.inputs)
    with pytest.raises(RtlError, match="reset"):
        machine.run(case.program, case.inputs)
    return caught.value


def recover(machine: RtlMachine, case: Case) -> None:
    machine.core.clear_faults()
    machine.reset()
    assert machine.core.read_register("status") == 0
    assert machine.core.read_register("fault_code") == Fault.NONE
    case.run_exactly(machine)


ILLEGAL = {
    "opcode 0": bytes(INSTRUCTION_BYTES),
    "opcode 15": bytes([15]) + bytes(INSTRUCTION_BYTES - 1),
    "unused bits": End().encode()[:-1] + b"\x80",
    "field below its minimum": (int.from_bytes(Load().encode(), "little")
                                & ~(((1 << 20) - 1) << 48)).to_bytes(INSTRUCTION_BYTES, "little"),
    "address beyond the buffer": Matrix(source=CONFIG.feature_depth).encode(),
}


@pytest.mark.parametrize("kind", ILLEGAL)
def test_fault_illegal_instruction(machine: RtlMachine, cases: list[Case], kind: str) -> None:
    case = cases[0]
    first = case.program.instructions[:INSTRUCTION_BYTES]
    bad = dataclasses.replace(
        case.program, instructions=first + ILLEGAL[kind] + End().encode())
    fault = provoke(machine, case, bad)
    assert fault.code is Fault.ILLEGAL_INSTRUCTION
    assert fault.index == 1
    recover(machine, case)


def change(case: Case, kind: type[Instruction], **fields: int) -> tuple[int, Program]:
    """Return the index of the first instruction of a kind, and the program with it changed."""
    instructions = decode_program(case.program.instructions)
    index = next(i for i, item in enumerate(instructions) if isinstance(item, kind))
    instructions[index] = dataclasses.replace(instructions[index], **fields)
    return index, case.with_instructions(instructions)


@pytest.mark.parametrize(("kind", "unit"), [(Load, FaultUnit.LOAD), (Store, FaultUnit.STORE)])
def test_fault_address_outside_the_window(
    machine: RtlMachine, cases: list[Case], kind: type[Instruction], unit: FaultUnit
) -> None:
    case = cases[1]
    index, program = change(case, kind, offset=0x4000_0000)
    fault = provoke(machine, case, program)
    assert (fault.code, fault.unit, fault.index) == (Fault.ADDRESS, unit, index)
    segment = getattr(program.decoded()[index], "segment")  # noqa: B009 - of two classes
    assert fault.address == machine.image.segment_bases[segment] + 0x4000_0000
    assert fault.layer == case.program.layers[0].name
    assert "offset=1073741824" in str(fault)
    recover(machine, case)


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
@pytest.mark.parametrize("seed", [None, 1])
def test_fault_axi_read(
    machine: RtlMachine, cases: list[Case], response: str, seed: int | None
) -> None:
    case = cases[2]
    machine.core.set_timing(MemoryTiming(latency=9, backpressure_seed=seed))
    image = machine.load(case.program)
    start = image.segment_bases[2]
    machine.core.inject_fault("read", response, addresses=(start, start + 1))
    fault = provoke(machine, case, case.program)
    assert (fault.code, fault.unit) == (Fault.AXI_READ, FaultUnit.LOAD)
    assert isinstance(case.program.decoded()[fault.index], Load)
    recover(machine, case)


def test_fault_axi_read_of_instructions(machine: RtlMachine, cases: list[Case]) -> None:
    case = cases[2]
    machine.core.inject_fault("read", "SLVERR", burst=0)
    fault = provoke(machine, case, case.program)
    assert (fault.code, fault.unit) == (Fault.AXI_READ, FaultUnit.FETCH)
    recover(machine, case)


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
def test_fault_axi_write(machine: RtlMachine, cases: list[Case], response: str) -> None:
    case = cases[3]
    machine.core.inject_fault("write", response, burst=1)
    fault = provoke(machine, case, case.program)
    assert (fault.code, fault.unit) == (Fault.AXI_WRITE, FaultUnit.STORE)
    assert isinstance(case.program.decoded()[fault.index], Store)
    recover(machine, case)


def test_fault_watchdog(machine: RtlMachine, cases: list[Case]) -> None:
    case = cases[0]
    cycles = machine.run(case.program, case.inputs).cycles
    machine.core.write_register("watchdog", cycles // 2)
    fault = provoke(machine, case, case.program)
    assert fault.code is Fault.WATCHDOG
    machine.core.write_register("watchdog", 0)
    recover(machine, case)


def test_fault_program_without_end(machine: RtlMachine, cases: list[Case]) -> None:
    case = cases[0]
    fault = provoke(machine, case, case.with_instructions(case.program.decoded()[:-1]))
    assert fault.code is Fault.PROGRAM_END
    recover(machine, case)


def test_fault_token_overflow(machine: RtlMachine, cases: list[Case]) -> None:
    case = cases[0]
    index, _ = change(case, Load)
    load = dataclasses.replace(case.program.decoded()[index], wait=0, signal=1 << Unit.STORE)
    fault = provoke(machine, case, case.with_instructions([load] * 256 + [End()]))
    assert fault.code is Fault.TOKEN_OVERFLOW
    recover(machine, case)


def test_a_deadlock_ends_with_a_report_and_reset_recovers(
    machine: RtlMachine, cases: list[Case]
) -> None:
    case = cases[0]
    index, program = change(case, Store, wait=1 << Unit.LOAD | 1 << Unit.MATRIX | 1 << Unit.POST)
    with pytest.raises(SimulationTimeout, match=rf"STORE completed 0 of .* waits for {index} "):
        machine.run(program, case.inputs, max_cycles=200_000)
    assert machine.core.read_register("status") == Status.RUNNING
    recover(machine, case)


@pytest.mark.parametrize("channel", ["read", "write"])
def test_a_memory_that_never_answers_ends_with_a_timeout(
    machine: RtlMachine, cases: list[Case], channel: str
) -> None:
    case = cases[0]
    machine.core.inject_fault(channel, "SILENCE", burst=1)
    with pytest.raises(SimulationTimeout, match="did not finish in 100000 cycles"):
        machine.run(case.program, case.inputs, max_cycles=100_000)
    with pytest.raises(SimulationTimeout, match="soft reset did not complete"):
        machine.reset()
    assert machine.core.read_register("status") & Status.DRAINING
    recover(machine, case)


def test_reset_in_the_midst_of_a_run_recovers(machine: RtlMachine, cases: list[Case]) -> None:
    case = cases[0]
    cycles = machine.run(case.program, case.inputs).cycles
    for part in range(1, 20):
        with pytest.raises(SimulationTimeout):
            machine.run(case.program, case.inputs, max_cycles=cycles * part // 20)
        recover(machine, case)
