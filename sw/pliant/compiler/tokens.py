"""Finds the hazards between units and places the tokens that keep them in order.

Units run ahead of one another but execute their own instructions in order. An instruction needs a
token from another unit when an earlier instruction there wrote what it reads or writes, or read
what it writes; only the latest such instruction matters. It needs one from its own unit when an
earlier instruction there wrote what it reads, for a unit may read for an instruction before it has
completed the one before. Instructions say themselves, by their fields, what they touch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from pliant.compiler.geometry import patches
from pliant.spec.config import ACCUMULATOR_BANKS, AcceleratorConfig
from pliant.spec.isa import (
    MAX_TOKENS,
    Instruction,
    Load,
    Matrix,
    Post,
    Source,
    Store,
    Target,
    Unit,
)
from pliant.spec.memory import TABLE_BYTES, ceil_div, pass_words
from pliant.spec.sampling import Offsets

QUEUE_MARGIN = 4
"""Instructions that a unit may hold beside its queue."""


@dataclass(frozen=True)
class Access:
    """Cells of one memory that an instruction touches: ``first + i*strides[0] + j*strides[1]``...

    `memory` is a Target, ("ddr", segment) or "accumulator"; cells are bank addresses, words,
    records, beats or accumulator banks. The innermost stride is 1.
    """

    memory: object
    write: bool
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def last(self) -> int:
        """Return the highest cell."""
        return self.first + sum((n - 1) * s for n, s in
                                zip(self.shape, self.strides, strict=True))


def accesses(instruction: Instruction, config: AcceleratorConfig) -> list[Access]:
    """Return all that `instruction` reads and writes."""
    if isinstance(instruction, Load):
        return [_ddr(instruction, config, write=False), _loaded(instruction, config)]
    if isinstance(instruction, Store):
        region = _region(instruction.source, instruction.group_stride, instruction.row_stride,
                         instruction.groups, (0, instruction.rows),
                         (0, instruction.row_beats * config.words_per_beat), write=False)
        return [_ddr(instruction, config, write=True), *region]
    if isinstance(instruction, Matrix):
        words = (instruction.groups * instruction.kernel_height * instruction.kernel_width
                 * pass_words(config, narrow=bool(instruction.narrow_weights)))
        return [
            *_window(instruction, instruction.source, instruction.group_stride,
                     instruction.row_stride),
            *_displacements(instruction),
            Access(Target.WEIGHT, False, instruction.weights, (words,), (1,)),
            Access("accumulator", True, instruction.accumulator_bank, (1,), (1,)),
        ]
    if isinstance(instruction, Post):
        return list(_post(instruction, config))
    return []


def _ddr(transfer: Load | Store, config: AcceleratorConfig, *, write: bool) -> Access:
    beat = config.axi_data_bytes
    return Access(
        ("ddr", transfer.segment), write, transfer.offset // beat,
        (transfer.blocks, transfer.runs, transfer.run_beats),
        (transfer.block_stride // beat, transfer.run_stride // beat, 1))


def _loaded(load: Load, config: AcceleratorConfig) -> Access:
    if load.target == Target.FEATURE:
        width = load.row_beats * config.words_per_beat
        [region] = _region(load.destination, load.group_stride, load.row_stride, load.groups,
                           (0, load.rows), (0, width), write=True)
        return region
    unit = {Target.WEIGHT: config.cols, Target.PARAMETER: config.parameter_bytes, Target.TABLE: 1,
            Target.TAPS: 4 * config.lanes}
    size = load.run_beats * load.runs * load.blocks * config.axi_data_bytes
    return Access(load.target, True, load.destination,
                  (ceil_div(size, unit[Target(load.target)]),), (1,))


def _region(
    base: int, group_stride: int, row_stride: int, groups: int, rows: tuple[int, int],
    columns: tuple[int, int], *, write: bool,
) -> list[Access]:
    """Return the bank addresses of half-open ranges of rows and columns; none if they are empty."""
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return []
    pairs = rows[0] >> 1, (rows[1] - 1) >> 1
    halves = columns[0] >> 1, (columns[1] - 1) >> 1
    return [Access(
        Target.FEATURE, write, base + pairs[0] * row_stride + halves[0],
        (groups, pairs[1] - pairs[0] + 1, halves[1] - halves[0] + 1),
        (group_stride, row_stride, 1))]


def _window(
    step: Matrix | Post, base: int, group_stride: int, row_stride: int
) -> list[Access]:
    sampling = step.sampling()
    ranges = []
    for origin, outputs, stride, kernel, dilation, size in (
        (step.origin_y, step.out_height, step.stride_y, step.kernel_height, step.dilation_y,
         step.height),
        (step.origin_x, step.out_width, step.stride_x, step.kernel_width, step.dilation_x,
         step.width),
    ):
        before, behind = sampling.reach(kernel) if sampling else (0, 0)
        stop = origin + (outputs - 1) * stride + (kernel - 1) * dilation + 1 + behind
        ranges.append((max(origin - before, 0), min(stop, size)))
    return _region(base, group_stride, row_stride, step.groups, ranges[0], ranges[1], write=False)


def _displacements(matrix: Matrix) -> Iterator[Access]:
    """Yield the reads of an instruction that copies offsets."""
    if not (matrix.offsets and matrix.offset_load):
        return
    height, width = matrix.out_height, matrix.out_width
    yield from _region(
        matrix.offset_source, matrix.offset_group_stride, matrix.offset_row_stride,
        matrix.offset_groups, (matrix.offset_y, matrix.offset_y + height),
        (matrix.offset_x, matrix.offset_x + width), write=False)
    if matrix.offsets == Offsets.MODULATED:
        yield from _region(
            matrix.mask_source, matrix.mask_group_stride, matrix.mask_row_stride,
            matrix.mask_groups, (matrix.mask_y, matrix.mask_y + height),
            (matrix.mask_x, matrix.mask_x + width), write=False)


def _post(post: Post, config: AcceleratorConfig) -> Iterator[Access]:
    if post.source == Source.ACCUMULATOR:
        yield Access("accumulator", False, post.accumulator_bank, (1,), (1,))
    else:
        yield from _window(post, post.window, post.window_group_stride, post.window_row_stride)
    records = config.cols
    if post.offsets:
        records = post.groups * config.lanes
        words = post.kernel_height * post.kernel_width
        yield Access(Target.TAPS, False, post.taps, (words,), (1,))
    elif post.source == Source.DEPTHWISE:
        words = post.groups * patches((post.kernel_height, post.kernel_width),
                                      (post.dilation_y, post.dilation_x))
        yield Access(Target.TAPS, False, post.taps, (words,), (1,))
    yield Access(Target.PARAMETER, False, post.parameters, (records,), (1,))
    if post.table_enable:
        yield Access(Target.TABLE, False, 0, (TABLE_BYTES,), (1,))
    if post.add_enable or post.offsets:
        yield from _region(
            post.residual, post.residual_group_stride, post.residual_row_stride,
            post.offset_groups if post.offsets else post.groups,
            (post.residual_y, post.residual_y + post.out_height),
            (post.residual_x, post.residual_x + post.out_width), write=False)
    zoom = 2 if post.upsample else 1
    yield from _region(
        post.destination, post.destination_group_stride, post.destination_row_stride, post.groups,
        (post.destination_y, post.destination_y + zoom * post.out_height),
        (post.destination_x, post.destination_x + zoom * post.out_width), write=True)


NONE = -1


class _History:
    """The latest instruction of each unit that read and that wrote each cell of one memory."""

    def __init__(self, cells: int) -> None:
        self.read = np.full((len(Unit), cells), NONE, np.int32)
        self.written = np.full((len(Unit), cells), NONE, np.int32)
        self.readers: set[Unit] = set()
        self.writers: set[Unit] = set()

    def hazards(self, access: Access, own: Unit) -> Iterator[tuple[Unit, int]]:
        """Yield (unit, its latest instruction that `access` must follow)."""
        for units, table in ((self.writers, self.written), (self.readers, self.read)):
            if table is self.read and not access.write:
                continue
            for unit in units - {own} if access.write else units:
                latest = int(_cells(table[unit], access).max())
                if latest != NONE:
                    yield unit, latest

    def note(self, access: Access, own: Unit, index: int) -> None:
        """Record that instruction `index` of unit `own` makes `access`."""
        (self.writers if access.write else self.readers).add(own)
        table = self.written if access.write else self.read
        _cells(table[own], access)[...] = index


def _cells(table: NDArray[np.int32], access: Access) -> NDArray[np.int32]:
    strides = tuple(stride * table.itemsize for stride in access.strides)
    return as_strided(table[access.first:], access.shape, strides)


def hazards(
    instructions: Sequence[Instruction], config: AcceleratorConfig
) -> list[dict[Unit, int]]:
    """Return for each instruction the latest of every unit that it must wait for."""
    touched = [accesses(instruction, config) for instruction in instructions]
    sizes: dict[object, int] = {"accumulator": ACCUMULATOR_BANKS}
    for access in (access for several in touched for access in several):
        sizes[access.memory] = max(sizes.get(access.memory, 0), access.last() + 1)
    histories = {memory: _History(size) for memory, size in sizes.items()}
    result: list[dict[Unit, int]] = []
    for index, instruction in enumerate(instructions):
        unit = instruction.unit
        needs: dict[Unit, int] = {}
        result.append(needs)
        if unit is None:
            continue
        for access in touched[index]:
            for other, latest in histories[access.memory].hazards(access, unit):
                needs[other] = max(needs.get(other, NONE), latest)
        for access in touched[index]:
            histories[access.memory].note(access, unit, index)
    return result


def place_tokens(
    instructions: Sequence[Instruction], config: AcceleratorConfig
) -> list[Instruction]:
    """Return the instructions with `wait` and `signal` set so that every hazard is respected.

    A hazard that other tokens already exclude gets none. Tokens of a pair of units are thus sent
    and consumed in the same order, at most one by each instruction.
    """
    needs = hazards(instructions, config)
    wait, signal = [0] * len(instructions), [0] * len(instructions)
    known = {unit: [NONE] * len(Unit) for unit in Unit}
    """Latest instruction of each unit that is known to be complete when a unit's next starts."""
    known_at: list[list[int]] = []
    edges: list[tuple[int, int]] = []
    for index, instruction in enumerate(instructions):
        unit = instruction.unit
        if unit is None:
            known_at.append([])
            continue
        clock = known[unit]
        for other, latest in sorted(needs[index].items(), key=lambda need: -need[1]):
            if clock[other] >= latest:
                continue
            wait[index] |= 1 << other
            signal[latest] |= 1 << unit
            edges.append((latest, index))
            clock = [max(pair) for pair in zip(clock, known_at[latest], strict=True)]
            clock[other] = latest
        known[unit] = clock
        known_at.append(clock)
    _check_pending(instructions, edges, config)
    return [dataclasses.replace(instruction, wait=w, signal=s)
            for instruction, w, s in zip(instructions, wait, signal, strict=True)]


def _check_pending(
    instructions: Sequence[Instruction], edges: list[tuple[int, int]], config: AcceleratorConfig
) -> None:
    """Assert that no pair of units can have more tokens pending than the hardware counts.

    While a unit is stuck at an instruction, instructions are handed out only up to where its queue
    is full, so tokens that lie ahead come from before that place.
    """
    for receiver in Unit:
        own = [index for index, instruction in enumerate(instructions)
               if instruction.unit == receiver]
        reach = {index: own[position + config.queue_depth + QUEUE_MARGIN]
                 if position + config.queue_depth + QUEUE_MARGIN < len(own) else len(instructions)
                 for position, index in enumerate(own)}
        for sender in Unit:
            pairs = [pair for pair in edges if instructions[pair[0]].unit == sender
                     and instructions[pair[1]].unit == receiver]
            senders = np.array([pair[0] for pair in pairs], np.int64)
            for position, (_, stuck) in enumerate(pairs):
                pending = int(np.searchsorted(senders, reach[stuck])) - position
                assert pending <= MAX_TOKENS, f"{pending} tokens from {sender} to {receiver}"
