"""Profiles: prefixes run to their end, add up to a run, and leave the program as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from tests.driver.cases import CONFIG, MEMORY_BYTES, FaultyDevice, network_case

from pliant.compiler import compile_graph
from pliant.driver.accelerator import Accelerator
from pliant.driver.faults import HardwareFault
from pliant.driver.profile import boundaries, check_prefixes
from pliant.spec.config import preset
from pliant.spec.isa import MAX_TOKENS, End, Load, Store, Unit
from pliant_models import digits
from pliant_models.random_networks import random_network


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    device = FaultyDevice.of(CONFIG, memory_bytes=MEMORY_BYTES, coherent=False)
    with Accelerator(device, CONFIG, limit_cycles=100_000) as accelerator:
        yield accelerator
    assert not device.memory.live


@pytest.mark.parametrize("seed", range(3))
def test_layers_add_up_to_a_whole_run(accelerator: Accelerator, seed: int) -> None:
    case = network_case(seed)
    program = accelerator.load(case.program)
    image = [value[0] for value in case.inputs]
    cycles = accelerator.run(*image).cycles[0]
    counters = accelerator.core.counters()
    profile = accelerator.profile(*image)
    assert profile.cycles == cycles == counters["cycles"]
    assert sum(layer.cycles for layer in profile.layers) + profile.other_cycles == cycles
    # What units do is of a layer, whenever they do it.
    for name in ("matrix_active", "post_active", "write_beats"):
        assert sum(layer.counters[name] for layer in profile.layers) == counters[name]
    assert [layer.name for layer in profile.layers] == [layer.name for layer in program.layers]
    assert all(layer.macs == info.macs
               for layer, info in zip(profile.layers, program.layers, strict=True))
    case.run_exactly(accelerator, 2)
    accelerator.verify()
    assert accelerator.run(*image).cycles[0] == cycles
    assert str(profile.cycles) in profile.text()
    assert all(layer.name in profile.text() for layer in profile.layers)


def test_without_inputs_a_profile_is_of_zeros(accelerator: Accelerator) -> None:
    case = network_case(0)
    accelerator.load(case.program)
    assert accelerator.profile().cycles == accelerator.run(
        *(value[0] for value in case.inputs)).cycles[0]


def test_a_fault_while_profiling_leaves_the_program_as_it_was(accelerator: Accelerator) -> None:
    case = network_case(0)
    accelerator.load(case.program)
    device = accelerator.device
    assert isinstance(device, FaultyDevice)
    device.core.inject_fault("read", "SLVERR", burst=9)
    with pytest.raises(HardwareFault):
        accelerator.profile()
    device.heal()
    accelerator.verify()
    case.run_exactly(accelerator, 2)


@pytest.mark.parametrize("name", ["tiny", "pynq_z2", "ultra96", "kv260"])
def test_every_prefix_of_compiled_programs_is_closed_under_tokens(name: str) -> None:
    config = preset(name)
    check_prefixes(compile_graph(digits.graph(), config).decoded())
    for seed in range(8):
        graph = random_network(seed, multiplier_bits=config.multiplier_bits)
        check_prefixes(compile_graph(graph, config).decoded())


def test_parts_cover_the_program_in_order() -> None:
    program = network_case(1).program
    parts = boundaries(program)
    ends = [end for end, _ in parts]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(program.decoded()) - 1
    start = 0
    for end, name in parts:
        assert {program.owners[index].name for index in range(start, end)} == {name}
        start = end


def test_a_program_that_waits_for_a_later_token_is_refused() -> None:
    wait, send = Load(wait=1 << Unit.STORE), Store(signal=1 << Unit.LOAD)
    check_prefixes([send, wait, End()])
    with pytest.raises(ValueError, match="instruction 0 waits for a token of STORE"):
        check_prefixes([wait, send, End()])
    with pytest.raises(ValueError, match=f"more than {MAX_TOKENS} tokens from STORE to LOAD"):
        check_prefixes([send] * (MAX_TOKENS + 1) + [wait, End()])


def test_a_program_without_its_end_is_refused(accelerator: Accelerator) -> None:
    case = network_case(0)
    code = case.program.instructions
    accelerator.load(dataclasses.replace(case.program, instructions=code + code[-64:]))
    with pytest.raises(ValueError, match="one End"):
        accelerator.profile()
