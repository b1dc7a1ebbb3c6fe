"""A program and its tensors in memory: which areas there are, and what stands where in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.driver.device import Area
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.memory import feature_tensor_bytes, pack_features, round_up, unpack_features
from pliant.spec.program import Program, Segment, TensorInfo
from pliant.spec.registers import SEGMENTS

PAGE_BYTES = 4096
"""Alignment of every area: the boundary that no AXI4 burst crosses."""

POISON = 0xA5
"""Byte that :meth:`MemoryImage.poison` writes; results that were never written show it."""


def area_sizes(program: Program, config: AcceleratorConfig) -> tuple[int, ...]:
    """Return the bytes, whole pages, of the instructions and of each segment."""
    sizes = [0] * SEGMENTS
    sizes[Segment.CONSTANTS] = len(program.constants)
    sizes[Segment.SCRATCH] = program.scratch_bytes
    for tensor in named_tensors(program).values():
        end = tensor.offset + _tensor_bytes(config, tensor)
        sizes[tensor.segment] = max(sizes[tensor.segment], end)
    return tuple(round_up(size, PAGE_BYTES) for size in (len(program.instructions), *sizes))


def named_tensors(program: Program) -> dict[str, TensorInfo]:
    """Return every tensor with a place in memory, by name: inputs, outputs, layer outputs."""
    return {t.name: t for t in (*program.kept, *program.inputs, *program.outputs)}


class MemoryImage:
    """Instructions, constants, scratch, inputs and outputs of one program in areas of memory.

    Parameters
    ----------
    program : Program
        Must be made for `config`; ProgramError otherwise.
    config : AcceleratorConfig
    areas : sequence of 5 Area
        Memory of the instructions and of each segment, of :func:`area_sizes` or more bytes. Two
        images may share some of them.

    Attributes
    ----------
    segment_bases : tuple of 4 int
        Values of the segment registers, in the order of :class:`pliant.spec.program.Segment`.
    program_base, program_length : int
        Address of the first instruction, and how many there are.
    """

    def __init__(self, program: Program, config: AcceleratorConfig, areas: Sequence[Area]) -> None:
        program.require(config)
        self.program = program
        self.config = config
        self.program_base = areas[0].address
        self.program_length = len(program.instructions) // INSTRUCTION_BYTES
        self.segment_bases = tuple(area.address for area in areas[1:])
        self._code = areas[0].array
        self._segments = tuple(area.array for area in areas[1:])
        self._views: dict[str, tuple[TensorInfo, NDArray[np.uint8]]] = {}

    def loaded(self) -> dict[str, tuple[NDArray[np.uint8], bytes]]:
        """Return the memory of the instructions and of the constants, and what belongs there."""
        return {
            name: (memory[:len(data)], data)
            for name, memory, data in (
                ("instructions", self._code, self.program.instructions),
                ("constants", self._segments[Segment.CONSTANTS], self.program.constants),
            )
        }

    def fill(self) -> None:
        """Write instructions and constants."""
        for memory, data in self.loaded().values():
            memory[:] = np.frombuffer(data, np.uint8)

    def differences(self) -> dict[str, int]:
        """Return where instructions and constants differ from what belongs there: first bytes."""
        found = {}
        for name, (memory, data) in self.loaded().items():
            expected = np.frombuffer(data, np.uint8)
            if not np.array_equal(memory, expected):
                found[name] = int(np.flatnonzero(memory != expected)[0])
        return found

    def replace_instruction(self, index: int, data: bytes) -> None:
        """Write other bytes over an instruction; :meth:`fill` brings it back."""
        start = index * INSTRUCTION_BYTES
        self._code[start:start + INSTRUCTION_BYTES] = np.frombuffer(data, np.uint8)

    def tensors(self) -> dict[str, TensorInfo]:
        """Return every tensor with a place in memory, by name: inputs, outputs, layer outputs."""
        return named_tensors(self.program)

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
        self._view(info)[:] = pack_features(self.config, info.arrange(tensor))

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
            self._segments[segment][:] = POISON

    def _view(self, info: TensorInfo) -> NDArray[np.uint8]:
        known = self._views.get(info.name)
        if known is not None and known[0] is info:
            return known[1]
        memory = self._segments[info.segment]
        end = info.offset + _tensor_bytes(self.config, info)
        if info.offset < 0 or end > len(memory):
            raise ValueError(
                f"tensor {info.name!r} {info.shape} ends at byte {end} of segment {info.segment}, "
                f"which has {len(memory)}; the tensor is not of this program"
            )
        view = memory[info.offset:end]
        self._views[info.name] = info, view
        return view


class BlockImage(MemoryImage):
    """A memory image in one NumPy array, for test benches that are their own memory.

    Parameters
    ----------
    program, config
        As for :class:`MemoryImage`.
    base : int
        Address of the first byte, a multiple of 4 KiB.

    Attributes
    ----------
    base : int
        Address of ``data[0]``.
    data : uint8 array
        The memory; its length is a multiple of 4 KiB.
    window : tuple of 2 int
        First address of the memory, and the first above it.
    """

    def __init__(
        self, program: Program, config: AcceleratorConfig, *, base: int = 0x1000_0000
    ) -> None:
        if base % PAGE_BYTES:
            raise ValueError(f"base = {base:#x} must be a multiple of {PAGE_BYTES}")
        sizes = area_sizes(program, config)
        self.base = base
        self.data: NDArray[np.uint8] = np.zeros(sum(sizes), np.uint8)
        self.window = (base, base + sum(sizes))
        areas, start = [], 0
        for size in sizes:
            areas.append(_Slice(self.data[start:start + size], base + start))
            start += size
        super().__init__(program, config, areas)
        self.fill()


@dataclass(frozen=True)
class _Slice:
    array: NDArray[np.uint8]
    address: int


def _tensor_bytes(config: AcceleratorConfig, info: TensorInfo) -> int:
    channels, height, width = info.shape
    return feature_tensor_bytes(config, height, width, channels)
