"""A step of a program: one compute instruction and what it needs on chip."""

from __future__ import annotations

from dataclasses import dataclass, field

from pliant.compiler.buffers import Buffer
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
        return self.tensor is None or bool(self.tensor.words(self._part()).all())

    def _part(self) -> Rectangle:
        assert self.part is not None
        return self.part


@dataclass(eq=False)
class Step:
    """One Matrix, or one Post that reduces windows; the last of a tile also has Post and Store.

    Addresses within the instructions are relative to the buffers beside them.
    """

    layer: int
    loads: list[LoadTask] = field(default_factory=list)
    input: Buffer | None = None
    matrix: Matrix | None = None
    weights: Buffer | None = None
    post: Post | None = None
    taps: Buffer | None = None
    parameters: Buffer | None = None
    residual: Buffer | None = None
    output: Buffer | None = None
    store: Store | None = None
    result: DdrTensor | None = None
    stored: Rectangle | None = None
