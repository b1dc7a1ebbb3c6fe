"""A program and its tensors as one block of memory, placed as the driver places them in DDR."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.memory import feature_tensor_bytes, pack_features, round_up, unpack_features
from pliant.spec.program import Program, Segment, TensorInfo
from pliant.spec.registers import SEGMENTS

PAGE_BYTES = 4096
"""Alignment of every area: the boundary that no AXI4 burst crosses."""

POISON = 0xA5
"""Byte that :meth:`MemoryImage.poison` writes; results that were never written show it."""


class MemoryImage:
    """Instructions, constants, scratch, inputs and outputs of one program in one NumPy array.

    Parameters
    ----------
    program : Program
        Must be made for `config`; ProgramError otherwise.
    config : AcceleratorConfig
    base : int
        Address of the first byte, a multiple of 4 KiB.

    Attributes
    ----------
    base : int
        Address of ``data[0]``.
    data : uint8 array
        The memory; its length is a multiple of 4 KiB.
    segment_bases : tuple of 4 int
        Values of the segment registers, in the order of :class:`pliant.spec.program.Segment`.
    program_base, program_length : int
        Address of the first instruction, and how many there are.
    window : tuple of 2 int
        First address of the memory, and the first above it.
    """

    def __init__(
        self, program: Program, config: AcceleratorConfig, *, base: int = 0x1000_0000
    ) -> None:
        if base % PAGE_BYTES:
            raise ValueError(f"base = {base:#x} must be a multiple of {PAGE_BYTES}")
        program.require(config)
        self.program = program
        self.config = config
        self.base = base

        sizes = [0] * SEGMENTS
        sizes[Segment.CONSTANTS] = len(program.constants)
        sizes[Segment.SCRATCH] = program.scratch_bytes
        for tensor in self.tensors().values():
            end = tensor.offset + self._tensor_bytes(tensor)
            sizes[tensor.segment] = max(sizes[tensor.segment], end)

        self.program_base = base
        self.program_length = len(program.instructions) // INSTRUCTION_BYTES
        end = base + round_up(len(program.instructions), PAGE_BYTES)
        bases = []
        for size in sizes:
            bases.append(end)
            end += round_up(size, PAGE_BYTES)
        self.segment_bases = tuple(bases)
        self.window = (base, end)
        self.data: NDArray[np.uint8] = np.zeros(end - base, np.uint8)
        self._ends = (*bases[1:], end)
        self._write(self.program_base, program.instructions)
        self._write(self.segment_bases[Segment.CONSTANTS], program.constants)

    def tensors(self) -> dict[str, TensorInfo]:
        """Return every tensor with a place in memory, by name: inputs, outputs, layer outputs."""
        program = self.program
        return {t.name: t for t in (*program.kept, *program.inputs, *program.outputs)}

    def write_input(self, index: int, tensor: NDArray[np.int8]) -> None:
        """Write input `index` of the program, int8 (channels, height, width).

        Raises
        ------
        ValueError
            Wrong index, shape or dtype; names the tensor, what was found and what is allowed.
        """
        inputs = self.program.inputs
        if not 0 <= index < len(inputs):
            raise ValueError(
                f"program {self.program.network!r} has no input {index}; it has {len(inputs)}"
            )
        info = inputs[index]
        if tensor.shape != info.image_shape or tensor.dtype != np.int8:
            raise ValueError(
                f"input {info.name!r} of {self.program.network!r}: found {tensor.dtype} "
                f"{tensor.shape}, allowed is int8 {info.image_shape} (channels, height, width)"
            )
        packed = pack_features(self.config, info.arrange(tensor))
        self._view(info)[:] = packed

    def read_tensor(self, info: TensorInfo) -> NDArray[np.int8]:
        """Return a copy of a tensor in memory as int8 (channels, height, width).

        Raises
        ------
        ValueError
            The tensor does not lie inside its segment; names it and both sizes.
        """
        return info.restore(unpack_features(self.config, self._view(info), info.shape))

    def poison(self) -> None:
        """Fill scratch and outputs, so that a missing write cannot pass for an older result."""
        for segment in (Segment.SCRATCH, Segment.OUTPUT):
            start = self.segment_bases[segment] - self.base
            self.data[start:self._ends[segment] - self.base] = POISON

    def _tensor_bytes(self, info: TensorInfo) -> int:
        channels, height, width = info.shape
        return feature_tensor_bytes(self.config, height, width, channels)

    def _view(self, info: TensorInfo) -> NDArray[np.uint8]:
        start = self.segment_bases[info.segment] + info.offset
        end = start + self._tensor_bytes(info)
        if info.offset < 0 or end > self._ends[info.segment]:
            room = self._ends[info.segment] - self.segment_bases[info.segment]
            raise ValueError(
                f"tensor {info.name!r} {info.shape} ends at byte {end - start + info.offset} of "
                f"segment {info.segment}, which has {room}; the tensor is not of this program"
            )
        return self.data[start - self.base:end - self.base]

    def _write(self, address: int, data: bytes) -> None:
        start = address - self.base
        self.data[start:start + len(data)] = np.frombuffer(data, np.uint8)
