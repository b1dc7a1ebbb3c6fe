"""The instruction-level simulator against instructions carried out pixel by pixel."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.spec import numerics
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import (
    End,
    Instruction,
    Load,
    Matrix,
    Post,
    Source,
    Store,
    Target,
    Unit,
)
from pliant.spec.memory import bank_of, pack_parameters, pack_taps, pack_weights
from pliant.spec.numerics import Rounding
from pliant.spec.program import Program, ProgramError, Segment, TensorInfo
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim.simulator import InstructionSimulator, SimulationError, State

TINY = preset("tiny")
SHAPE = (6, 5, 7)


def program(
    instructions: Sequence[Instruction], constants: bytes = b"",
    config: AcceleratorConfig = TINY,
) -> Program:
    """Return a program with one input and one output of SHAPE."""
    def info(name: str, segment: int) -> TensorInfo:
        return TensorInfo(name=name, shape=SHAPE, segment=segment, offset=0, scale=1.0,
                          zero_point=0)

    return Program(
        network="hand-written", config_name=config.name, fingerprint=config.fingerprint,
        instructions=b"".join(i.encode() for i in instructions), constants=constants,
        scratch_bytes=0, inputs=(info("x", Segment.INPUT),),
        outputs=(info("y", Segment.OUTPUT),), layers=())


def an_input(seed: int = 0, images: int | None = None) -> NDArray[np.int8]:
    shape = SHAPE if images is None else (images, *SHAPE)
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


LOAD = Load(target=Target.FEATURE, segment=Segment.INPUT, run_beats=40, destination=3,
            row_beats=4, rows=5, groups=2, row_stride=5, group_stride=30)
STORE = Store(segment=Segment.OUTPUT, run_beats=40, source=3, row_beats=4, rows=5, groups=2,
              row_stride=5, group_stride=30)
"""A tensor of SHAPE: 2 lane groups of 4, rows of 8 words in beats of 2."""


def word(state: State, base: int, strides: tuple[int, int], g: int, y: int, x: int) -> np.ndarray:
    """Return the word of image 0 as the memory layout defines it."""
    start = base + g * strides[0]
    address = start + (y >> 1) * strides[1] + (x >> 1)
    return state.feature.data[0, bank_of(start, y, x), address]


def random_state(seed: int) -> State:
    state = InstructionSimulator(TINY).start(program([End()]), [an_input()])
    rng = np.random.default_rng(seed)
    for array in (state.feature.data, state.weight, state.parameter, state.table,
                  state.accumulator):
        info = np.iinfo(np.int8 if array is state.weight else array.dtype)
        array[...] = rng.integers(max(info.min, -(1 << 20)), min(info.max, 1 << 20), array.shape)
    return state


def test_load_and_store_copy_a_tensor() -> None:
    instructions = [dataclasses.replace(LOAD, signal=1 << Unit.STORE),
                    dataclasses.replace(STORE, wait=1 << Unit.LOAD), End()]
    result = InstructionSimulator(TINY).run(program(instructions), [an_input()])
    assert np.array_equal(result.outputs[0], an_input())


def test_load_puts_every_word_where_the_layout_says() -> None:
    simulator = InstructionSimulator(TINY)
    state = simulator.start(program([End()]), [an_input()])
    simulator.execute(state, LOAD)
    padded = np.zeros((8, 5, 8), np.int8)
    padded[:6, :, :7] = an_input()
    for g, y, x in np.ndindex(2, 5, 8):
        assert np.array_equal(word(state, 3, (30, 5), g, y, x), padded[4 * g:4 * g + 4, y, x])


def test_load_gathers_runs_and_blocks() -> None:
    simulator = InstructionSimulator(TINY)
    state = simulator.start(program([End()]), [an_input()])
    simulator.execute(state, Load(
        target=Target.FEATURE, segment=Segment.INPUT, offset=40, run_beats=2, runs=3,
        run_stride=32, blocks=2, block_stride=160, row_beats=2, rows=3, groups=2, row_stride=2,
        group_stride=8))
    padded = np.zeros((8, 5, 8), np.int8)
    padded[:6, :, :7] = an_input()
    for g, y, x in np.ndindex(2, 3, 4):  # from row 1, column 2
        assert np.array_equal(word(state, 0, (8, 2), g, y, x),
                              padded[4 * g:4 * g + 4, 1 + y, 2 + x])


def test_constants_reach_their_buffers() -> None:
    rng = np.random.default_rng(0)
    weights = pack_weights(TINY, rng.integers(-127, 128, (8, 4, 1, 1), np.int8))
    parameters = pack_parameters(TINY, np.arange(8) - 4, np.arange(8) + 1, np.arange(8) + 2)
    table = rng.integers(-128, 128, 256, np.int8)
    constants = weights.tobytes() + parameters.tobytes() + table.tobytes()
    simulator = InstructionSimulator(TINY)
    state = simulator.start(program([End()], constants), [an_input()])
    simulator.execute(state, Load(target=Target.WEIGHT, run_beats=4, destination=9))
    simulator.execute(state, Load(target=Target.PARAMETER, offset=32, run_beats=16, destination=8))
    simulator.execute(state, Load(target=Target.TABLE, offset=160, run_beats=32))
    assert np.array_equal(state.weight[9:13], weights.reshape(4, 8))
    assert state.parameter[8:16].tobytes() == parameters.tobytes()
    assert np.array_equal(state.table, table)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
def test_matrix_is_the_convolution_that_its_fields_describe(
    seed: int, accumulate: int, narrow: int
) -> None:
    rng = np.random.default_rng(seed)
    state = random_state(seed)
    matrix = Matrix(
        source=5, group_stride=40, row_stride=4, height=6, width=7,
        origin_y=int(rng.integers(-3, 3)), origin_x=int(rng.integers(-3, 3)), groups=2,
        kernel_height=3, kernel_width=2, dilation_y=2, dilation_x=1, stride_y=1, stride_x=2,
        out_height=3, out_width=5, pad_value=-7, weights=11, accumulator_bank=1,
        accumulator_base=4, accumulate=accumulate, narrow_weights=narrow)
    before = state.accumulator.copy()
    weights = state.weight.astype(np.int64)
    if narrow:  # the two halves of every byte, as signed numbers
        weights = np.stack([(weights + 8) % 16 - 8, weights >> 4], axis=1)[11:].reshape(-1, 8)
        weights = np.concatenate([np.zeros((11, 8), np.int64), weights])
    expected = np.zeros((3, 5, 8), np.int64)
    for oy, ox, g, ky, kx in np.ndindex(3, 5, 2, 3, 2):
        y = matrix.origin_y + oy + 2 * ky
        x = matrix.origin_x + 2 * ox + kx
        inside = 0 <= y < 6 and 0 <= x < 7
        value = word(state, 5, (40, 4), g, y, x) if inside else np.full(4, -7)
        first = 11 + ((g * 3 + ky) * 2 + kx) * 4
        expected[oy, ox] += value.astype(np.int64) @ weights[first:first + 4]
    expected = expected.reshape(15, 8) + accumulate * before[0, 1, 4:19]
    InstructionSimulator(TINY).execute(state, matrix)
    assert np.array_equal(state.accumulator[0, 1, 4:19], expected)
    before[0, 1, 4:19] = expected
    assert np.array_equal(state.accumulator, before)  # and nothing else has changed


@pytest.mark.parametrize(("narrow", "last"), [(0, 508), (1, 510)])
def test_weights_end_with_the_buffer(narrow: int, last: int) -> None:
    config = dataclasses.replace(TINY, weight_depth=512)
    simulator = InstructionSimulator(config)
    state = simulator.start(program([End()], config=config), [an_input()])
    matrix = Matrix(weights=last, narrow_weights=narrow)
    simulator.execute(state, matrix)
    with pytest.raises(SimulationError, match=r"words from word .* weight_depth is 512"):
        simulator.execute(state, dataclasses.replace(matrix, weights=last + 1))


@pytest.mark.parametrize("depth", [100, 1100])
def test_sums_too_long_for_float32_are_exact(depth: int) -> None:
    config = dataclasses.replace(TINY, weight_depth=8192, feature_depth=4096)
    simulator = InstructionSimulator(config)
    state = simulator.start(program([End()], config=config), [an_input()])
    state.feature.data[...] = -127
    state.weight[...] = 127
    state.weight[0, :] = 126  # an odd sum: float32 would have to round it beyond 2**24
    simulator.execute(state, Matrix(groups=depth, group_stride=1))
    assert state.accumulator[0, 0, 0, 0] == 127 - depth * 4 * 127 * 127


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("source", list(Source))
@pytest.mark.parametrize("add_enable", [0, 1])
@pytest.mark.parametrize("table_enable", [0, 1])
def test_post_does_what_its_fields_describe(
    source: Source, rounding: Rounding, add_enable: int, table_enable: int
) -> None:
    rng = np.random.default_rng(int(source))
    state = random_state(3)
    channels = np.arange(8)
    bias, multiplier = rng.integers(-5000, 5000, 8), rng.integers(1 << 29, 1 << 31, 8)
    shift = rng.integers(38 if source == Source.ACCUMULATOR else 31, 45, 8)
    state.parameter[8:16] = pack_parameters(TINY, bias, multiplier, shift).reshape(8, -1)
    weight = rng.integers(-127, 128, (8, 2, 3), np.int8)
    words = pack_taps(TINY, weight, (1, 2)).reshape(-1, 16)
    state.taps[5:5 + len(words)] = words
    post = Post(
        source=source, accumulator_bank=1, accumulator_base=2, window=7, window_group_stride=50,
        window_row_stride=6, height=6, width=9, origin_y=-1, origin_x=-2, kernel_height=2,
        kernel_width=3, stride_y=2, stride_x=1, dilation_y=1, dilation_x=2, pad_value=-9, taps=5,
        groups=2, out_height=3, out_width=4, destination=301, destination_group_stride=21,
        destination_row_stride=5, destination_y=1, destination_x=3, parameters=8,
        rounding=rounding, zero_point=-3, clip_min=-100, clip_max=90, add_enable=add_enable,
        residual=200, residual_group_stride=30, residual_row_stride=5, residual_y=2, residual_x=1,
        add_multiplier=200, add_residual_multiplier=-77, add_offset=1234, add_shift=8,
        add_zero_point=5, add_clip_min=-90, add_clip_max=100, table_enable=table_enable)
    expected = np.zeros((2, 3, 4, 4), np.int8)
    for g, y, x in np.ndindex(2, 3, 4):
        lanes = channels[4 * g:4 * g + 4]
        if source == Source.ACCUMULATOR:
            values = state.accumulator[0, 1, 2 + y * 4 + x, lanes].astype(np.int64)
        else:
            seen = []
            for ky, kx in np.ndindex(2, 3):
                row, column = -1 + 2 * y + ky, -2 + x + 2 * kx
                inside = 0 <= row < 6 and 0 <= column < 9
                value = (word(state, 7, (50, 6), g, row, column).astype(np.int64)
                         if inside else np.full(4, -9))
                seen.append(value * weight[lanes, ky, kx] if source == Source.DEPTHWISE else value)
            values = np.max(seen, axis=0) if source == Source.MAXIMUM else np.sum(seen, axis=0)
        result = numerics.requantize(
            values + bias[lanes], multiplier[lanes], shift[lanes], rounding=rounding,
            multiplier_bits=31, zero_point=-3, clip_min=-100, clip_max=90)
        if add_enable:
            result = numerics.add(
                result, word(state, 200, (30, 5), g, 2 + y, 1 + x), multiplier_first=200,
                multiplier_second=-77, offset=1234, shift=8, rounding=rounding, zero_point=5,
                clip_min=-90, clip_max=100)
        expected[g, y, x] = state.table[result.view(np.uint8)] if table_enable else result
    untouched = state.feature.data.copy()
    InstructionSimulator(TINY).execute(state, post)
    for g, y, x in np.ndindex(2, 3, 4):
        written = word(state, 301, (21, 5), g, 1 + y, 3 + x)
        assert np.array_equal(written, expected[g, y, x])
        start = 301 + g * 21
        address = start + (1 + y >> 1) * 5 + (3 + x >> 1)
        untouched[0, bank_of(start, 1 + y, 3 + x), address] = written
    assert np.array_equal(state.feature.data, untouched)


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (37, 2)])
def test_depthwise_sums_too_long_for_float32_are_exact(kernel: int, stride: int) -> None:
    config = dataclasses.replace(TINY, tap_depth=1024)
    simulator = InstructionSimulator(config)
    state = simulator.start(program([End()], config=config), [an_input()])
    state.taps[...] = 127
    state.taps[0, 0] = 126  # an odd sum: float32 would have to round it beyond 2**24
    total = -127 * (kernel * kernel * 127 - 1)
    state.feature.data[...] = -127
    bias, shift = np.full(8, -total - 5), np.zeros(8)
    state.parameter[:8] = pack_parameters(config, bias, np.ones(8), shift).reshape(8, -1)
    simulator.execute(state, Post(
        source=Source.DEPTHWISE, kernel_height=kernel, kernel_width=kernel, stride_x=stride,
        height=kernel, width=kernel, pad_value=-127, window_row_stride=19, out_width=3,
        destination=500))
    written = word(state, 500, (0, 0), 0, 0, 0)
    assert written.tolist() == [-5, -128, -128, -128]  # the other lanes' sums are 127 less


def test_a_batch_gives_what_its_images_give_alone() -> None:
    graph = random_layer(11, multiplier_bits=31, kind="convolution_add_input")
    compiled = compile_graph(graph, TINY)
    batch = random_inputs(graph, 0, images=3)["x"]
    simulator = InstructionSimulator(TINY)
    together = simulator.run(compiled, [batch]).outputs[0]
    for image, output in zip(batch, together, strict=True):
        assert np.array_equal(simulator.run(compiled, [image]).outputs[0], output)


BROKEN: dict[str, tuple[list[Instruction], str]] = {
    "no End": ([LOAD], "is an End"),
    "End in the middle": ([End(), LOAD], "instruction 0: End is not the last"),
    "token never sent": ([LOAD, dataclasses.replace(STORE, wait=1 << Unit.POST), End()],
                         "waits for a token of post that no earlier"),
    "too many tokens": ([dataclasses.replace(LOAD, signal=1 << Unit.STORE)] * 256 + [End()],
                        "more than 255 tokens to store"),
    "beats do not match": ([dataclasses.replace(LOAD, rows=4), End()],
                           "40 beats of DDR do not fill 32 beats"),
    "DDR range": ([dataclasses.replace(LOAD, offset=8), End()],
                  "reaches byte 328 of segment 2, which has 320"),
    "DDR alignment": ([dataclasses.replace(LOAD, run_stride=4), End()],
                      "Load.run_stride = 4 must be a multiple of axi_data_bytes = 8"),
    "feature buffer range": ([dataclasses.replace(LOAD, destination=470), End()],
                             "reaches address 513 of the feature buffer, feature_depth is 512"),
    "weight buffer range": ([Matrix(weights=1021), End()], "reads 4 words from word 1021"),
    "tap buffer range": ([Post(source=Source.DEPTHWISE, kernel_height=3, kernel_width=3, taps=61),
                          End()], "reads 4 words from word 61 of the tap buffer, tap_depth is 64"),
    "load past the tap buffer": (
        [Load(target=Target.TAPS, segment=Segment.INPUT, destination=60, run_beats=9), End()],
        "72 bytes pass the end of the buffer: 64 left"),
    "accumulator range": ([Matrix(out_height=5, out_width=13), End()],
                          "accumulator_base + out_height * out_width = 65 must be at most "
                          "accumulator_depth = 64"),
    "record alignment": ([Post(parameters=4), End()],
                         "Post.parameters = 4 must be a multiple of cols = 8"),
    "groups of an accumulator tile": ([Post(groups=3), End()],
                                      "Post.groups = 3 must be at most groups_per_tile = 2"),
    "field past the configuration": ([Matrix(source=512), End()],
                                     "be under feature_depth = 512"),
    "table in pieces": ([Load(target=Target.TABLE, segment=Segment.INPUT), End()],
                        "a table is 256 bytes"),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_broken_programs_are_refused(what: str) -> None:
    instructions, message = BROKEN[what]
    with pytest.raises(SimulationError, match=re.escape(message)):
        InstructionSimulator(TINY).run(program(instructions), [an_input()])


def test_errors_name_index_and_disassembly() -> None:
    waiting = dataclasses.replace(STORE, wait=1 << Unit.LOAD)
    with pytest.raises(SimulationError, match=r"^instruction 1 \(store wait=load segment=3 .*\): "):
        InstructionSimulator(TINY).run(program([LOAD, waiting, End()]), [an_input()])


def test_a_program_for_another_configuration_is_refused() -> None:
    with pytest.raises(ProgramError, match="compiled for configuration 'tiny'"):
        InstructionSimulator(preset("kv260")).run(program([End()]), [an_input()])


def test_inputs_of_another_shape_type_or_number_are_refused() -> None:
    simulator = InstructionSimulator(TINY)
    with pytest.raises(ValueError, match=r"input 'x' must be int8 \(6, 5, 7\)"):
        simulator.run(program([End()]), [an_input()[:, :4]])
    with pytest.raises(ValueError, match="must be int8"):
        simulator.run(program([End()]), [an_input().astype(np.uint8)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="takes 1 inputs, not 2"):
        simulator.run(program([End()]), [an_input(), an_input()])
