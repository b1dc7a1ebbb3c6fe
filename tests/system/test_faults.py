"""Every hardware fault on the RTL: provoked, reported, and after a reset the next run is exact."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pliant.compiler import compile_graph
from pliant.spec.config import preset
from pliant.spec.decoding import decode
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
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
from pliant.spec.program import Program, ProgramError
from pliant.spec.registers import Fault, FaultUnit
from pliant.spec.rules import Multiple, When
from pliant_models.random_layers import random_inputs, random_layer
from pliant_models.torch_reference import torch_reference
from pliant_sim.benches.random_instructions import breaking_instruction
from pliant_sim.rtl import HardwareFault, RtlMachine

CONFIG = preset("tiny")
GRAPH = random_layer(3, multiplier_bits=CONFIG.multiplier_bits, kind="convolution_add_input")
PROGRAM = compile_graph(GRAPH, CONFIG)
INPUTS = random_inputs(GRAPH, 3)
TENSORS = [INPUTS[tensor.name][0] for tensor in GRAPH.inputs]
EXPECTED = torch_reference(GRAPH, INPUTS, multiplier_bits=CONFIG.multiplier_bits)[
    GRAPH.outputs[0]][0]


@pytest.fixture
def machine():
    with RtlMachine(CONFIG) as machine:
        yield machine


def run_exactly(machine: RtlMachine) -> None:
    np.testing.assert_array_equal(machine.run(PROGRAM, TENSORS).outputs[0], EXPECTED)


def first_index(kind: type) -> int:
    return next(i for i, item in enumerate(PROGRAM.decoded()) if isinstance(item, kind))


def with_instruction(index: int, data: bytes) -> Program:
    start = index * INSTRUCTION_BYTES
    code = PROGRAM.instructions
    return dataclasses.replace(
        PROGRAM, instructions=code[:start] + data + code[start + INSTRUCTION_BYTES:])


def fails(machine: RtlMachine, program: Program, code: Fault, unit: FaultUnit) -> HardwareFault:
    with pytest.raises(HardwareFault) as caught:
        machine.run(program, TENSORS)
    assert (caught.value.code, caught.value.unit) == (code, unit)
    machine.reset()
    machine.core.clear_faults()
    machine.core.write_register("watchdog", 0)
    run_exactly(machine)
    run_exactly(machine)
    return caught.value


@pytest.mark.parametrize("corrupt", [
    lambda data: bytes([data[0] & 0xF0 | 0xF]) + data[1:],
    lambda data: data[:-1] + b"\x80",
    lambda data: bytes(INSTRUCTION_BYTES),
], ids=["opcode", "unused bits", "zeros"])
def test_illegal_instruction(machine: RtlMachine, corrupt: Callable[[bytes], bytes]) -> None:
    index = first_index(Store)
    program = with_instruction(index, corrupt(PROGRAM.decoded()[index].encode()))
    fault = fails(machine, program, Fault.ILLEGAL_INSTRUCTION, FaultUnit.CONTROL)
    assert fault.index == index


def test_zero_field_is_an_illegal_instruction(machine: RtlMachine) -> None:
    index = first_index(Load)
    data = bytearray(PROGRAM.decoded()[index].encode())
    word = int.from_bytes(data, "little")
    field = next(f for f in fields(Load)
                 if f.name == "runs")
    word &= ~(((1 << field.width) - 1) << field.offset)
    program = with_instruction(index, word.to_bytes(INSTRUCTION_BYTES, "little"))
    assert fails(machine, program, Fault.ILLEGAL_INSTRUCTION, FaultUnit.CONTROL).index == index


@pytest.mark.parametrize("kind", [Load, Store, Matrix, Post])
def test_each_rule_between_fields_stops_the_core(machine: RtlMachine, kind: type) -> None:
    random = np.random.default_rng(11)
    index = first_index(kind)
    for rule in kind.rules:
        found = breaking_instruction(random, kind, rule, CONFIG)
        if found is None:  # records fill a beat of this configuration
            assert rule == Multiple(field="destination", of="parameters_per_beat",
                                    when=When("target", (Target.PARAMETER,)))
            continue
        with pytest.raises(HardwareFault) as caught:
            machine.run(with_instruction(index, found.encode()), TENSORS)
        assert (caught.value.code, caught.value.unit, caught.value.index) == (
            Fault.ILLEGAL_INSTRUCTION, FaultUnit.CONTROL, index), str(rule)
        machine.reset()
    run_exactly(machine)


MUTATIONS = 100


@pytest.mark.parametrize("kind", ["convolution_add_input", "depthwise", "deformable"])
def test_a_mutated_instruction_is_refused_or_runs_and_never_hangs(
    machine: RtlMachine, kind: str
) -> None:
    """What the simulator refuses stops the core before it starts; all else ends, too."""
    random = np.random.default_rng(len(kind))
    graph = random_layer(5, multiplier_bits=CONFIG.multiplier_bits, kind=kind, max_size=12,
                         max_channels=20)
    program = compile_graph(graph, CONFIG)
    tensors = [values[0] for values in random_inputs(graph, 5).values()]
    limit = 3 * machine.run(program, tensors).cycles
    machine.core.write_register("watchdog", limit)
    decoded = program.decoded()
    illegal = 0
    for _ in range(MUTATIONS):
        index = int(random.integers(len(decoded) - 1))
        word = mutated(random, decoded[index])
        start = index * INSTRUCTION_BYTES
        changed = dataclasses.replace(program, instructions=program.instructions[:start] + word
                                      + program.instructions[start + INSTRUCTION_BYTES:])
        legal = True
        try:
            decode(word).check(CONFIG)
        except InstructionError:
            legal = False
        fault = None
        try:
            machine.run(changed, tensors, max_cycles=10 * limit)
        except HardwareFault as caught:
            fault = caught
            machine.reset()
        if legal:
            # The units themselves refuse transfers whose sides differ or leave their buffer.
            assert fault is None or fault.unit != FaultUnit.CONTROL or fault.code in (
                Fault.WATCHDOG, Fault.TOKEN_OVERFLOW), word.hex()
        else:
            illegal += 1
            assert fault is not None, word.hex()
            assert (fault.code, fault.unit, fault.index) == (
                Fault.ILLEGAL_INSTRUCTION, FaultUnit.CONTROL, index), word.hex()
    assert MUTATIONS / 8 < illegal < MUTATIONS * 9 / 10
    machine.core.write_register("watchdog", 0)
    run_exactly(machine)


def mutated(random: np.random.Generator, instruction: Instruction) -> bytes:
    """Return an instruction with one or two fields replaced by random bits."""
    word = int.from_bytes(instruction.encode(), "little")
    chosen = np.array(fields(type(instruction)), object)
    for field in random.choice(chosen, random.integers(1, 3)):
        mask = (1 << field.width) - 1
        bits = int(random.integers(mask + 1)) >> int(random.integers(field.width))
        word = word & ~(mask << field.offset) | bits << field.offset
    return word.to_bytes(INSTRUCTION_BYTES, "little")


@pytest.mark.parametrize(("kind", "unit"), [(Load, FaultUnit.LOAD), (Store, FaultUnit.STORE)])
def test_address_outside_the_window(machine: RtlMachine, kind: type, unit: FaultUnit) -> None:
    index = first_index(kind)
    outside = dataclasses.replace(PROGRAM.decoded()[index], offset=0xFFFF_0000)
    fault = fails(machine, with_instruction(index, outside.encode()), Fault.ADDRESS, unit)
    assert fault.index == index
    assert fault.address >= 0xFFFF_0000
    assert fault.layer == PROGRAM.layers[0].name


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
@pytest.mark.parametrize("burst", [0, 2, 5])
def test_read_error(machine: RtlMachine, response: str, burst: int) -> None:
    machine.core.inject_fault("read", response, burst=burst)
    with pytest.raises(HardwareFault) as caught:
        machine.run(PROGRAM, TENSORS)
    assert caught.value.code is Fault.AXI_READ
    assert caught.value.unit in (FaultUnit.LOAD, FaultUnit.FETCH)
    machine.reset()
    machine.core.clear_faults()
    run_exactly(machine)


@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
def test_write_error(machine: RtlMachine, response: str) -> None:
    machine.core.inject_fault("write", response, burst=1)
    fault = fails(machine, PROGRAM, Fault.AXI_WRITE, FaultUnit.STORE)
    assert isinstance(PROGRAM.decoded()[fault.index], Store)


def test_watchdog_ends_a_run_that_is_too_long(machine: RtlMachine) -> None:
    machine.core.write_register("watchdog", 300)
    fails(machine, PROGRAM, Fault.WATCHDOG, FaultUnit.CONTROL)


def test_watchdog_ends_a_run_whose_token_never_comes(machine: RtlMachine) -> None:
    index = first_index(Load)
    stuck = dataclasses.replace(PROGRAM.decoded()[index], wait=1 << Unit.STORE)
    machine.core.write_register("watchdog", 20_000)
    fails(machine, with_instruction(index, stuck.encode()), Fault.WATCHDOG, FaultUnit.CONTROL)


def test_watchdog_ends_a_run_whose_memory_does_not_answer(machine: RtlMachine) -> None:
    machine.core.inject_fault("read", "SILENCE", burst=6)
    machine.core.write_register("watchdog", 20_000)
    with pytest.raises(HardwareFault) as caught:
        machine.run(PROGRAM, TENSORS)
    assert caught.value.code is Fault.WATCHDOG
    machine.core.clear_faults()  # the memory answers late: the reset must drain it
    machine.reset()
    machine.core.write_register("watchdog", 0)
    run_exactly(machine)


def test_program_without_end(machine: RtlMachine) -> None:
    endless = dataclasses.replace(
        PROGRAM, instructions=PROGRAM.instructions[:-INSTRUCTION_BYTES])
    fails(machine, endless, Fault.PROGRAM_END, FaultUnit.CONTROL)


def test_too_many_tokens(machine: RtlMachine) -> None:
    index = first_index(Load)
    load = dataclasses.replace(PROGRAM.decoded()[index], wait=0, signal=1 << Unit.STORE)
    program = dataclasses.replace(
        PROGRAM, instructions=load.encode() * 300 + PROGRAM.instructions)
    fails(machine, program, Fault.TOKEN_OVERFLOW, FaultUnit.CONTROL)


@pytest.mark.parametrize("cycle", [1, 50, 173, 400, 1001])
def test_reset_in_the_middle_of_a_run(machine: RtlMachine, cycle: int) -> None:
    machine.load(PROGRAM)
    machine.core.write_register("control", 1)
    machine.core.run(cycle, until_interrupt=False)
    machine.reset()
    run_exactly(machine)


def test_a_program_for_another_configuration_is_refused(machine: RtlMachine) -> None:
    other = compile_graph(GRAPH, dataclasses.replace(CONFIG, name="deeper", weight_depth=2048))
    with pytest.raises(ProgramError, match="compiled for configuration 'deeper'"):
        machine.run(other, TENSORS)
