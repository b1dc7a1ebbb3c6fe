"""A step of a program: one compute instruction, what it needs on chip and what follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pliant.compiler.buffers import Buffer
from pliant.compiler.chip import Part
from pliant.compiler.memory_plan import DdrTensor, Rectangle
from pliant.spec.isa import Load, Matrix, Post, Store


@dataclass(eq=False)
class LoadTask:
    """A Load with `destination` relative to its buffer, and the tensor words that it reads."""

    buffer: Buffer
    load: Load
    tensor: DdrTensor | None = None
    part: Rectangle | None = None
    done: bool = False

    def ready(self) -> bool:
        """Whether all that it reads is stored by instructions already emitted."""
        if self.tensor is None:
            return True
        assert self.part is not None
        return bool(self.tensor.words(self.part).all())


@dataclass(eq=False)
class StoreTask:
    """A Store with `source` relative to its buffer, and the tensor words that it writes."""

    buffer: Buffer
    store: Store
    tensor: DdrTensor
    part: Rectangle


@dataclass(eq=False)
class Sums:
    """A tile of partial sums; `bank` holds it between its first Matrix and its Post."""

    bank: int | None = None


@dataclass(frozen=True)
class Extent:
    """Words of a part of a tensor on chip: lane groups and rows (of the part), half-open."""

    part: Part
    groups: tuple[int, int]
    rows: tuple[int, int]


@dataclass(eq=False)
class Step:
    """One Matrix or one Post. Addresses within instructions are relative to the buffers beside.

    `sums` is what a Matrix adds to, or what a Post reads and frees. `reads` and `writes` are the
    tensors on chip that order it after other steps.
    """

    layer: int
    matrix: Matrix | None = None
    post: Post | None = None
    loads: list[LoadTask] = field(default_factory=list)
    stores: list[StoreTask] = field(default_factory=list)
    sums: Sums | None = None
    input: Buffer | None = None
    weights: Buffer | None = None
    taps: Buffer | None = None
    parameters: Buffer | None = None
    table: Buffer | None = None
    residual: Buffer | None = None
    offsets: Buffer | None = None
    masks: Buffer | None = None
    output: Buffer | None = None
    reads: list[Extent] = field(default_factory=list)
    writes: Extent | None = None
    completes: bool = True
    """Whether what is written is then complete; else later steps of the layer write more of it."""

    def buffers(self) -> Iterator[Buffer]:
        """Yield all that must be on chip when the step runs."""
        for buffer in (self.input, self.weights, self.taps, self.parameters, self.table,
                       self.residual, self.offsets, self.masks, self.output):
            if buffer is not None:
                yield buffer
        for task in self.stores:
            yield task.buffer
