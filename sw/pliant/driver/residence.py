"""A program in a device's memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.driver.device import Buffer, Device
from pliant.driver.faults import DeviceMemoryError, MemoryCorruptedError
from pliant.driver.image import PAGE_BYTES, MemoryImage, area_sizes
from pliant.spec.config import AcceleratorConfig
from pliant.spec.program import Program, Segment

_NAMES = ("instructions", "constants", "scratch", "input", "output")
_CODE, _CONSTANTS, _INPUT, _OUTPUT = (
    0, 1 + Segment.CONSTANTS, 1 + Segment.INPUT, 1 + Segment.OUTPUT)


class Residence:
    """Buffers with a program, and with inputs and outputs for several images.

    Every area is a buffer of its own: caches are flushed and invalidated by the buffer.

    Parameters
    ----------
    program : Program
        Must be made for `config`; ProgramError otherwise.
    config : AcceleratorConfig
    device : Device
    slots : int
        Images that have inputs and outputs in memory at the same time.

    Attributes
    ----------
    images : tuple of MemoryImage
        One for each slot; they share instructions, constants and scratch.
    window : tuple of 2 int
        Lowest address of the buffers, and the first above them.

    Raises
    ------
    DeviceMemoryError
        There is not enough memory; nothing stays allocated.
    """

    def __init__(
        self, program: Program, config: AcceleratorConfig, device: Device, *, slots: int
    ) -> None:
        self.program = program
        self._buffers: list[Buffer] = []
        sizes = area_sizes(program, config)
        areas: list[tuple[Buffer, ...]] = []
        try:
            shared = [self._allocate(device, config, index, sizes[index])
                      for index in range(_INPUT)]
            for _ in range(slots):
                own = [self._allocate(device, config, index, sizes[index])
                       for index in (_INPUT, _OUTPUT)]
                areas.append((*shared, *own))
            self._areas = tuple(areas)
            self.images = tuple(MemoryImage(program, config, slot) for slot in areas)
            self.window = (min(buffer.address for buffer in self._buffers),
                           max(buffer.address + len(buffer.array) for buffer in self._buffers))
            for buffer in self._buffers:
                buffer.array[:] = 0
            self.restore()
            for slot in areas:
                slot[_INPUT].flush()
                slot[_OUTPUT].flush()
        except BaseException:
            self.free()
            raise

    def restore(self) -> None:
        """Write instructions and constants."""
        self.images[0].fill()
        self.flush_program()

    def flush_program(self) -> None:
        """Make instructions and constants visible to the core."""
        for index in range(_INPUT):
            self._areas[0][index].flush()

    def verify(self) -> None:
        """Raise MemoryCorruptedError unless instructions and constants are what was loaded."""
        for index in (_CODE, _CONSTANTS):
            self._areas[0][index].invalidate()
        differences = self.images[0].differences()
        if differences:
            raise MemoryCorruptedError(self.program.network, differences)

    def write_inputs(self, slot: int, tensors: list[NDArray[np.int8]]) -> None:
        """Write the inputs of one image, int8 (channels, height, width) each."""
        for index, tensor in enumerate(tensors):
            self.images[slot].write_input(index, tensor)
        self._areas[slot][_INPUT].flush()

    def read_outputs(self, slot: int) -> list[NDArray[np.int8]]:
        """Return the outputs of one image, int8 (channels, height, width) each."""
        self._areas[slot][_OUTPUT].invalidate()
        return [self.images[slot].read_tensor(info) for info in self.program.outputs]

    def free(self) -> None:
        """Give all memory back."""
        while self._buffers:
            self._buffers.pop().free()

    def _allocate(
        self, device: Device, config: AcceleratorConfig, index: int, size: int
    ) -> Buffer:
        if not size:
            return _NoBuffer(self._buffers[0].address)
        try:
            buffer = device.allocate(size)
        except MemoryError as error:
            held = sum(len(held.array) for held in self._buffers)
            raise DeviceMemoryError(
                f"program {self.program.network!r}: no {size} bytes of device memory for its "
                f"{_NAMES[index]}, after {held} bytes were allocated ({error}); free what other "
                "drivers hold, or enlarge the memory that Linux reserves for devices (CMA)"
            ) from error
        self._buffers.append(buffer)
        end = buffer.address + len(buffer.array)
        if buffer.address % PAGE_BYTES or end > 1 << config.axi_address_bits:
            raise DeviceMemoryError(
                f"program {self.program.network!r}: the device's memory for its {_NAMES[index]} is "
                f"at {buffer.address:#x}, which must be a multiple of {PAGE_BYTES} and, to its "
                f"end, within the core's {config.axi_address_bits} address bits")
        return buffer


@dataclass(frozen=True)
class _NoBuffer:
    """A buffer without bytes, whose address nobody uses."""

    address: int

    @property
    def array(self) -> NDArray[np.uint8]:
        return np.zeros(0, np.uint8)

    def flush(self) -> None:
        pass

    def invalidate(self) -> None:
        pass

    def free(self) -> None:
        pass
