"""Tokens keep units apart wherever they must, in every order that the hardware may choose."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pliant.compiler import compile_graph
from pliant.compiler.graph import Graph
from pliant.compiler.reference import evaluate
from pliant.compiler.tokens import place_tokens
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import Instruction, Load, Matrix, Post, Source, Store, Target, Unit
from pliant.spec.memory import bank_of, ceil_div, patch_taps
from pliant.spec.program import Program
from pliant.spec.sampling import Offsets
from pliant_models.random_layers import DISPLACED_KINDS, random_inputs, random_layer
from pliant_sim.simulator import InstructionSimulator

Cell = tuple[object, ...]


def run_interleaved(
    program: Program, config: AcceleratorConfig, inputs: list[np.ndarray], seed: int
) -> list[np.ndarray]:
    """Execute with queues of queue_depth, always choosing at random among the units that may start.

    Odd seeds prefer units in a random fixed order instead, so that one runs as far ahead as it can.
    """
    rng = np.random.default_rng(seed)
    simulator = InstructionSimulator(config)
    state = simulator.start(program, inputs)
    waiting = deque(program.decoded()[:-1])
    queues: dict[Unit, deque[Instruction]] = {unit: deque() for unit in Unit}
    tokens: dict[tuple[Unit, Unit], int] = defaultdict(int)
    order = rng.permutation(list(Unit))
    while waiting or any(queues.values()):
        while waiting and len(queues[waiting[0].unit]) < config.queue_depth:
            queues[waiting[0].unit].append(waiting.popleft())
        able = [Unit(u) for u in order if queues[Unit(u)]
                and all(tokens[v, Unit(u)] for v in _units(queues[Unit(u)][0].wait))]
        assert able, "deadlock"
        unit = able[0] if seed % 2 else able[rng.integers(len(able))]
        instruction = queues[unit].popleft()
        for other in _units(instruction.wait):
            tokens[other, unit] -= 1
        simulator.execute(state, instruction)
        for other in _units(instruction.signal):
            tokens[unit, other] += 1
    assert not any(tokens.values()), "tokens are left over"
    return simulator.result(program, state, batched=True).outputs


def _units(mask: int) -> list[Unit]:
    return [unit for unit in Unit if mask >> unit & 1]


def touched(
    instruction: Instruction, config: AcceleratorConfig
) -> tuple[set[Cell], set[Cell]]:
    """Return what an instruction reads and writes, word by word, as the specification says."""
    i = instruction
    if isinstance(i, (Load, Store)):
        ddr = {("ddr", i.segment, i.offset + b * i.block_stride + r * i.run_stride
                + beat * config.axi_data_bytes)
               for b in range(i.blocks) for r in range(i.runs) for beat in range(i.run_beats)}
        width = i.row_beats * config.words_per_beat
        if isinstance(i, Store):
            return _words(i.source, i.group_stride, i.row_stride, i.groups,
                          ((y, x) for y in range(i.rows) for x in range(width))), ddr
        if i.target == Target.FEATURE:
            return ddr, _words(i.destination, i.group_stride, i.row_stride, i.groups,
                               ((y, x) for y in range(i.rows) for x in range(width)))
        size = {Target.WEIGHT: config.cols, Target.PARAMETER: config.parameter_bytes,
                Target.TABLE: 1, Target.TAPS: 4 * config.lanes}[Target(i.target)]
        return ddr, {(i.target, i.destination + k)
                     for k in range(len(ddr) * config.axi_data_bytes // size)}
    if isinstance(i, Matrix):
        words = i.groups * i.kernel_height * i.kernel_width * config.rows
        words //= 1 + i.narrow_weights
        reads = _words(i.source, i.group_stride, i.row_stride, i.groups, _window(i))
        reads |= {(Target.WEIGHT, i.weights + k) for k in range(words)}
        return reads, {("accumulator", i.accumulator_bank)}
    assert isinstance(i, Post)
    records = i.groups * config.lanes if i.offsets else config.cols
    reads = {(Target.PARAMETER, i.parameters + k) for k in range(records)}
    if i.source == Source.ACCUMULATOR:
        reads.add(("accumulator", i.accumulator_bank))
    else:
        reads |= _words(i.window, i.window_group_stride, i.window_row_stride, i.groups, _window(i))
    if i.offsets:
        reads |= {(Target.TAPS, i.taps + k) for k in range(i.kernel_height * i.kernel_width)}
    elif i.source == Source.DEPTHWISE:
        words = (ceil_div(i.kernel_height, patch_taps(i.dilation_y))
                 * ceil_div(i.kernel_width, patch_taps(i.dilation_x)))
        reads |= {(Target.TAPS, i.taps + k) for k in range(i.groups * words)}
    if i.table_enable:
        reads.add((Target.TABLE, 0))
    pixels = [(y, x) for y in range(i.out_height) for x in range(i.out_width)]
    if i.add_enable or i.offsets:
        reads |= _words(i.residual, i.residual_group_stride, i.residual_row_stride,
                        i.offset_groups if i.offsets else i.groups,
                        ((i.residual_y + y, i.residual_x + x) for y, x in pixels))
    written = pixels if not i.upsample else [
        (2 * y + bit // 2, 2 * x + bit % 2) for y, x in pixels for bit in range(4)
        if i.upsample >> bit & 1]
    return reads, _words(
        i.destination, i.destination_group_stride, i.destination_row_stride, i.groups,
        ((i.destination_y + y, i.destination_x + x) for y, x in written))


def _words(
    base: int, group_stride: int, row_stride: int, groups: int,
    pixels: Iterator[tuple[int, int]],
) -> set[Cell]:
    starts = [base + g * group_stride for g in range(groups)]
    return {("feature", bank_of(start, y, x), start + (y >> 1) * row_stride + (x >> 1))
            for y, x in pixels for start in starts}


def _window(i: Matrix | Post) -> Iterator[tuple[int, int]]:
    """Yield all that windows may read, however far offsets displace their taps."""
    sampling = i.sampling()
    axes = []
    for origin, outputs, stride, kernel, dilation, size in (
            (i.origin_y, i.out_height, i.stride_y, i.kernel_height, i.dilation_y, i.height),
            (i.origin_x, i.out_width, i.stride_x, i.kernel_width, i.dilation_x, i.width)):
        before, behind = sampling.reach(kernel) if sampling else (0, 0)
        read = {origin + output * stride + tap * dilation + moved
                for output in range(outputs) for tap in range(kernel)
                for moved in range(-before, behind + 1)}
        axes.append([position for position in read if 0 <= position < size])
    yield from itertools.product(*axes)


def unordered(
    instructions: list[Instruction], config: AcceleratorConfig
) -> list[tuple[int, int]]:
    """Return the pairs that touch one cell, one of them writing, in any order.

    An instruction starts after the one before it in its unit has started and those whose tokens it
    takes are complete; a unit completes its instructions in order and makes its writes in order,
    after all its earlier reads. The n-th token that a unit waits for from another is the n-th that
    the other sent it.
    """
    sent: dict[tuple[Unit, Unit], deque[int]] = defaultdict(deque)
    before = [0] * len(instructions)  # bit sets of instructions known to be complete at the start
    after = [0] * len(instructions)  # and at the end
    latest: dict[Unit, int] = {}
    last_write: dict[Cell, int] = {}
    readers: dict[Cell, list[int]] = defaultdict(list)
    pairs = set()
    for index, instruction in enumerate(instructions):
        unit = instruction.unit
        assert unit is not None
        if unit in latest:
            before[index] |= before[latest[unit]]
            after[index] |= after[latest[unit]]
        for other in _units(instruction.wait):
            before[index] |= after[sent[other, unit].popleft()]
        after[index] |= before[index] | 1 << index
        latest[unit] = index
        for other in _units(instruction.signal):
            sent[unit, other].append(index)
        reads, writes = touched(instruction, config)
        needs = {last_write[cell] for cell in reads if cell in last_write}
        overwritten = {last_write[cell] for cell in writes if cell in last_write}
        overwritten |= {reader for cell in writes for reader in readers[cell]}
        needs |= {other for other in overwritten if instructions[other].unit != unit}
        pairs |= {(need, index) for need in needs if not before[index] >> need & 1}
        for cell in reads:
            readers[cell].append(index)
        for cell in writes:
            last_write[cell] = index
            readers[cell] = []
    return sorted(pairs)


@pytest.mark.parametrize("seed", range(8))
def test_networks_are_exact_in_any_legal_order(network: Callable[..., Graph], seed: int) -> None:
    config = preset("tiny")
    graph = network(seed, config.multiplier_bits, size=9)
    inputs = random_inputs(graph, seed)
    expected = evaluate(graph, inputs)
    program = compile_graph(graph, config)
    outputs = run_interleaved(program, config, [inputs["x"]], seed)
    for name, values in zip(graph.outputs, outputs, strict=True):
        assert np.array_equal(values, expected[name])


@pytest.mark.parametrize("seed", range(4))
def test_depthwise_networks_are_exact_in_any_legal_order(
    inverted: Callable[..., Graph], seed: int
) -> None:
    config = dataclasses.replace(preset("tiny"), tap_depth=16)
    graph = inverted(seed, config.multiplier_bits, size=9)
    inputs = random_inputs(graph, seed)
    expected = evaluate(graph, inputs)
    program = compile_graph(graph, config)
    outputs = run_interleaved(program, config, [inputs["x"]], seed)
    for name, values in zip(graph.outputs, outputs, strict=True):
        assert np.array_equal(values, expected[name])


def check_layer(kind: str, seed: int, config: AcceleratorConfig) -> Program:
    """Return the program of a random layer, which is exact in some legal order."""
    graph = random_layer(seed, multiplier_bits=31, max_size=12, max_channels=40, kind=kind)
    inputs = random_inputs(graph, seed)
    expected = evaluate(graph, inputs)
    program = compile_graph(graph, config)
    outputs = run_interleaved(program, config, list(inputs.values()), seed)
    assert np.array_equal(outputs[0], expected[graph.outputs[0]]), (kind, seed)
    return program


@pytest.mark.parametrize("kind", ["convolution", "convolution_add_input", "branches", "max_pool",
                                  "depthwise", "depthwise_add_input"])
def test_layers_are_exact_in_any_legal_order(kind: str) -> None:
    config = dataclasses.replace(preset("tiny"), feature_depth=256, accumulator_depth=16,
                                 weight_depth=256, tap_depth=64, queue_depth=2)
    for seed in range(12):
        check_layer(kind, seed, config)


@pytest.mark.parametrize("kind", DISPLACED_KINDS)
def test_displaced_layers_are_exact_in_any_legal_order(kind: str) -> None:
    config = dataclasses.replace(preset("tiny"), accumulator_depth=16, tap_depth=16, queue_depth=2)
    for seed in range(8):
        program = check_layer(kind, seed, config)
        if seed < 2:
            assert unordered(program.decoded()[:-1], config) == [], (kind, seed)


@pytest.mark.parametrize("name", ["tiny", "pynq_z2", "ultra96"])
def test_every_hazard_of_a_network_is_ordered(network: Callable[..., Graph], name: str) -> None:
    config = preset(name)
    program = compile_graph(network(1, config.multiplier_bits, size=8), config)
    assert unordered(program.decoded()[:-1], config) == []


@pytest.mark.parametrize("name", ["tiny", "pynq_z2", "ultra96"])
def test_every_hazard_of_a_depthwise_network_is_ordered(
    inverted: Callable[..., Graph], name: str
) -> None:
    config = dataclasses.replace(preset(name), tap_depth=16)  # taps follow one another
    program = compile_graph(inverted(1, config.multiplier_bits, size=8), config)
    assert unordered(program.decoded()[:-1], config) == []


def test_every_token_is_needed(network: Callable[..., Graph]) -> None:
    config = preset("tiny")
    instructions = compile_graph(network(2, 31, channels=6, size=6), config).decoded()[:-1]
    waits = [(index, unit) for index, instruction in enumerate(instructions)
             for unit in _units(instruction.wait)]
    rng = np.random.default_rng(0)
    for choice in rng.choice(len(waits), 25, replace=False):
        index, sender = waits[choice]
        receiver = instructions[index].unit
        assert receiver is not None
        place = sum(1 for i, unit in waits[:choice]
                    if unit == sender and instructions[i].unit == receiver)
        senders = [i for i, instruction in enumerate(instructions)
                   if instruction.unit == sender and instruction.signal >> receiver & 1]
        changed = list(instructions)
        changed[index] = dataclasses.replace(
            changed[index], wait=changed[index].wait & ~(1 << sender))
        changed[senders[place]] = dataclasses.replace(
            changed[senders[place]], signal=changed[senders[place]].signal & ~(1 << receiver))
        assert unordered(changed, config), (index, sender)


def test_units_that_touch_nothing_in_common_get_no_tokens() -> None:
    config = preset("tiny")
    load = Load(target=Target.FEATURE, run_beats=1)
    matrix = Matrix(source=1)
    assert [(i.wait, i.signal) for i in place_tokens([load, matrix], config)] == [(0, 0)] * 2
    load, matrix = place_tokens([load, Matrix(source=0)], config)
    assert (load.signal, matrix.wait) == (1 << Unit.MATRIX, 1 << Unit.LOAD)


def test_a_unit_waits_for_itself_where_it_reads_what_it_wrote() -> None:
    def post(source: int, destination: int, **fields: int) -> Post:
        return Post(source=Source.SUM, window=source, destination=destination, **fields)

    program = [post(0, 8), post(0, 16), post(8, 24), post(8, 8), post(24, 8),
               post(0, 32, add_enable=1, residual=24)]
    placed = place_tokens(program, preset("tiny"))
    own = 1 << Unit.POST
    assert [step.wait for step in placed] == [0, 0, own, 0, own, 0]
    assert [step.signal for step in placed] == [own, 0, own, 0, 0, 0]
    assert not unordered(placed, preset("tiny"))
    assert unordered(program, preset("tiny")) == [(0, 2), (0, 3), (2, 4), (2, 5)]


@pytest.mark.parametrize(("most", "waits"), [(120, True), (119, False)])  # half a pixel up
def test_displaced_windows_wait_for_all_that_taps_may_reach(most: int, waits: bool) -> None:
    load = Load(target=Target.FEATURE, destination=8, rows=2, row_stride=2)  # rows 8 and 9
    post = Post(source=Source.DEPTHWISE, offsets=Offsets.PER_TAP, offset_max=most,
                window_group_stride=1, window_row_stride=2, height=16, width=4, residual=100,
                destination=200)
    assert placed_wait(load, post) == waits


@pytest.mark.parametrize(("offsets", "groups", "waits"), [
    (Offsets.PER_TAP, 3, True), (Offsets.PER_TAP, 2, False), (Offsets.NONE, 3, False)])
def test_displaced_instructions_wait_for_the_records_of_each_lane_group(
    offsets: Offsets, groups: int, waits: bool
) -> None:
    load = Load(target=Target.PARAMETER, destination=8, run_beats=2)
    post = Post(source=Source.DEPTHWISE, offsets=offsets, groups=groups, window_group_stride=1,
                residual=100, destination=200)
    assert placed_wait(load, post) == waits


def placed_wait(load: Load, post: Post) -> bool:
    """Whether `post` is made to wait for `load`."""
    post.check(preset("tiny"))
    placed = place_tokens([load, post], preset("tiny"))[1]
    return placed.wait == 1 << Unit.LOAD
