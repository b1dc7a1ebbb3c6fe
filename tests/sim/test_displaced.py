"""Displaced Matrix instructions in the instruction-level simulator, against the literal model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pliant.spec.config import preset
from pliant.spec.isa import End, InstructionError, Matrix
from pliant.spec.program import Program
from pliant.spec.sampling import Offsets
from pliant_sim.benches.golden import Features, OffsetStore, run_matrix
from pliant_sim.simulator import InstructionSimulator, SimulationError, State

TINY = preset("tiny")


def empty_state() -> State:
    program = Program(
        network="none", config_name=TINY.name, fingerprint=TINY.fingerprint,
        instructions=End().encode(), constants=b"", scratch_bytes=0, inputs=(), outputs=(),
        layers=())
    return State(TINY, program, 1)


def displaced(random: np.random.Generator, *, load: bool, kernel: tuple[int, int]) -> Matrix:
    def pick(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    low, high = sorted((pick(-128, 127), pick(-128, 127)))
    taps = kernel[0] * kernel[1]
    height, width = pick(1, 9), pick(1, 9)
    return Matrix(
        source=pick(0, 50), row_stride=5, group_stride=30, height=height, width=width,
        origin_y=pick(-4, 3), origin_x=pick(-4, 3), groups=pick(1, 3), kernel_height=kernel[0],
        kernel_width=kernel[1], dilation_y=pick(1, 2), dilation_x=pick(1, 2), stride_y=pick(1, 2),
        stride_x=pick(1, 2), out_height=4, out_width=5, pad_value=pick(-128, 127),
        weights=pick(0, 500), accumulator_base=pick(0, 40), offsets=Offsets(pick(1, 3)),
        interpolate=pick(0, 3) > 0, offset_shift=pick(0, 4), offset_load=int(load),
        offset_min=low, offset_max=high, offset_groups=-(-2 * taps // TINY.lanes),
        offset_source=pick(0, 99), offset_group_stride=12, offset_row_stride=4,
        offset_y=pick(0, 2), offset_x=pick(0, 2), mask_groups=-(-taps // TINY.lanes),
        mask_source=pick(0, 99), mask_group_stride=12, mask_row_stride=4)


@pytest.mark.parametrize("seed", range(20))
def test_displaced_instructions_equal_the_literal_model(seed: int) -> None:
    print(f"{seed=}")
    random = np.random.default_rng(seed)
    state, simulator = empty_state(), InstructionSimulator(TINY)
    features, store = Features(TINY, random), OffsetStore(TINY)
    state.feature.data[0] = features.words
    weights = random.integers(-127, 128, (TINY.weight_depth, TINY.cols), np.int8)
    state.weight[...] = weights
    expected = np.zeros_like(state.accumulator[0])
    for load in (True, False, True):  # the second by the offsets of the first
        kernel = (3, 1)
        instruction = displaced(random, load=load, kernel=kernel)
        simulator.execute(state, instruction)
        run_matrix(TINY, instruction, features, weights, expected, store)
    np.testing.assert_array_equal(state.accumulator[0], expected)


def test_new_offsets_replace_samples_that_are_kept() -> None:
    random = np.random.default_rng(0)
    state, simulator = empty_state(), InstructionSimulator(TINY)
    instruction = dataclasses.replace(
        displaced(random, load=True, kernel=(3, 3)), height=9, width=9, origin_y=0, origin_x=0,
        offset_min=-128, offset_max=127, offset_shift=0)
    simulator.execute(state, instruction)
    before = state.accumulator.copy()
    state.feature.data[:, :, instruction.offset_source:] += 17
    simulator.execute(state, instruction)
    assert (state.accumulator != before).any()


def test_offsets_that_pass_their_memory_are_refused() -> None:
    with pytest.raises(InstructionError, match="at most offset_depth = 512 of 'tiny'"):
        Matrix(offsets=Offsets.PER_TAP, out_height=8, out_width=8, offset_groups=9).check(TINY)
    with pytest.raises(InstructionError, match="at most mask_depth = 256 of 'tiny'"):
        Matrix(offsets=Offsets.MODULATED, out_height=8, out_width=8, mask_groups=5).check(TINY)


def test_offsets_with_too_few_channels_for_the_kernel_are_refused() -> None:
    instruction = Matrix(offsets=Offsets.PER_TAP, kernel_height=3, kernel_width=3,
                         offset_groups=4)
    with pytest.raises(SimulationError, match="offset_groups = 4 have 16 channels, the kernel "
                                              "needs 18"):
        InstructionSimulator(TINY).execute(empty_state(), instruction)
