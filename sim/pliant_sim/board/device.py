"""A device of PYNQ that is a virtual board: overlays, registers, buffers and interrupts."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
from pynq.buffer import PynqBuffer
from pynq.interrupt import _InterruptController
from pynq.pl_server.device import Device
from pynq.ps import ZU_ARCH, ZYNQ_ARCH, Clocks
from pynqmetadata.frontends import Metadata
from pynqmetadata.views.runtime import RuntimeMetadataParser

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import Platform
from pliant_sim.board.bitstream import parse_bit
from pliant_sim.board.board import CYCLES_PER_SECOND, MEMORY_BYTES, Board
from pliant_sim.board.errors import BitstreamError, BusError
from pliant_sim.board.memory import Allocation
from pliant_sim.board.overlay import write_overlay
from pliant_sim.board.uio import VirtualUio
from pliant_sim.closing import Closing
from pliant_sim.core import MemoryTiming

_numbers = itertools.count()


class BoardBuffer(PynqBuffer):  # type: ignore[misc]  # PYNQ has no types
    """A buffer whose memory goes back to the virtual board instead of the kernel."""

    lent: Allocation | None = None
    """What the array holds; None for views of one, and after it is freed."""

    def freebuffer(self) -> None:
        """Give the memory back; does nothing the second time, or for a view."""
        allocation, self.lent = self.lent, None
        if allocation is not None:
            self.freed = True
            self.device.hardware.memory.free(allocation)


class VirtualMemory:
    """The memory that ``pynq.allocate`` takes from; the overlay's ``PSDDR``.

    Parameters
    ----------
    device : VirtualBoard
    """

    def __init__(self, device: VirtualBoard) -> None:
        self._device = device

    def allocate(self, shape: Any, dtype: Any, cacheable: int = 1, **kwargs: Any) -> BoardBuffer:
        """Return a buffer; MemoryError with the sizes when there is no room.

        Memory that is not `cacheable` needs neither flush nor invalidate.
        """
        if kwargs:
            raise TypeError(f"allocate() takes no {', '.join(kwargs)}; allowed is cacheable")
        dtype = np.dtype(dtype)
        memory = self._device.hardware.memory
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        allocation = memory.allocate(nbytes, uncached=not cacheable)
        buffer = BoardBuffer(shape, dtype, buffer=memory.host_view(allocation), bo=allocation,
                               device=self._device, device_address=allocation.address)
        buffer.lent = allocation
        return buffer


class VirtualBoard(Closing, Device):  # type: ignore[misc]  # PYNQ has no types
    """A board of a platform, simulated, as PYNQ's ``Device``.

    PYNQ finds buffers, clocks and interrupts through its active device: that is the virtual one
    whose overlay was loaded last. Others stay usable by polling; an interrupt object of another
    device raises PYNQ's "Interrupt invalidated by Overlay change".

    Parameters
    ----------
    platform, config, timing, memory_bytes, coherent, access_cycles
        See :class:`pliant_sim.board.board.Board`.

    Attributes
    ----------
    hardware : Board
    """

    _probe_priority_ = 1000

    cycles_per_second = float(CYCLES_PER_SECOND)
    """The driver asks for it."""

    @classmethod
    def _probe_(cls) -> list[VirtualBoard]:
        return []  # virtual boards are made, not found

    def __init__(
        self, platform: Platform, config: AcceleratorConfig | None = None, *,
        timing: MemoryTiming | None = None, memory_bytes: int = MEMORY_BYTES,
        coherent: bool = False, access_cycles: int = 1000,
    ) -> None:
        super().__init__(f"pliant-virtual{next(_numbers)}")
        self.hardware = Board(platform, config, timing=timing, memory_bytes=memory_bytes,
                              coherent=coherent, access_cycles=access_cycles)
        self.name = platform.name
        self.arch = ZYNQ_ARCH if platform.family == "zynq" else ZU_ARCH
        self.timestamp = ""
        self.bitfile_name: str | None = None
        self.capabilities = {"REGISTER_RW": True, "MEMORY_MAPPED": False}
        self.default_memory = VirtualMemory(self)
        self._uio = VirtualUio(self.hardware)
        self._raw_interrupts: list[int] = []
        if not hasattr(Device, "_active_device"):
            self.activate()

    def close(self) -> None:
        """End the simulation and leave nothing of it in PYNQ; may be called twice."""
        self._uio.close()
        self.hardware.close()
        for number in self._raw_interrupts:
            if _InterruptController._uio_devices.get(number) is self._uio:
                del _InterruptController._uio_devices[number]
        if getattr(Device, "_active_device", None) is self:
            del Device._active_device
            _InterruptController._controllers.clear()

    def activate(self) -> None:
        """Make this PYNQ's active device."""
        Device.active_device = self
        for number in self._raw_interrupts:
            _InterruptController._uio_devices[number] = self._uio

    def write_overlay(self, directory: Path) -> Path:
        """Write the .bit and .hwh for this board; see :func:`~.overlay.write_overlay`."""
        return write_overlay(directory, self.hardware.platform, self.hardware.config)

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        """Return PYNQ's parser of the .hwh beside a .bit file."""
        if partial:
            raise BitstreamError("a virtual board has no partial bitstreams")
        path = Path(bitfile_name).with_suffix(".hwh")
        if not path.is_file():
            raise FileNotFoundError(2, "no hardware handoff beside the bitstream", str(path))
        parser = RuntimeMetadataParser(Metadata(input=str(path)))
        _fill_frequencies(parser)
        memory = self.hardware.memory
        parser.mem_dict["PSDDR"] = {
            "base_address": memory.base, "size": memory.nbytes, "type": "DDR4", "used": 1,
            "idx": 0, "tag": "PSDDR", "streaming": False,
        }
        if Clocks.device is not self and hasattr(Clocks, "_real_instance"):
            del Clocks._real_instance  # PYNQ keeps the clocks of the first device for ever
        return parser

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Configure the board; PYNQ calls it.

        Raises
        ------
        BitstreamError
            It is no stand-in, or one for another platform or configuration.
        """
        self.hardware.load(parse_bit(Path(bitstream.bitfile_name).read_bytes()))
        if parser is not None:
            self._raw_interrupts = [entry["raw_irq"]
                                    for entry in parser.interrupt_controllers.values()]
        self.post_download(bitstream, parser, self.name)
        self.activate()

    def gen_cache(self, bitstream: Any, parser: Any = None) -> None:
        """Do nothing: no metadata are kept."""

    def shutdown(self) -> None:
        """Do nothing: the design has no shutdown managers."""

    def get_memory(self, description: Any) -> VirtualMemory:
        """Return the memory for an entry of ``mem_dict``; there is one."""
        return self.default_memory

    def read_registers(self, address: int, length: int) -> bytes:
        """Return `length` bytes of registers from an absolute address on."""
        if length % 4:
            raise BusError(f"registers are read in words of 4 bytes, not {length}")
        return b"".join([self.hardware.read(address + offset).to_bytes(4, "little")
                         for offset in range(0, length, 4)])

    def write_registers(self, address: int, data: bytes) -> None:
        """Write bytes to registers from an absolute address on."""
        if len(data) % 4:
            raise BusError(f"registers are written in words of 4 bytes, not {len(data)}")
        for index, (word,) in enumerate(struct.iter_unpack("<I", bytes(data))):
            self.hardware.write(address + 4 * index, word)

    def flush(self, bo: Allocation, offset: int, ptr: int, size: int) -> None:
        """Make a buffer's bytes visible to the core; PYNQ calls it."""
        self.hardware.memory.flush(bo, offset, size)

    def invalidate(self, bo: Allocation, offset: int, ptr: int, size: int) -> None:
        """Make bytes that the core wrote visible in a buffer; PYNQ calls it."""
        self.hardware.memory.invalidate(bo, offset, size)


def _fill_frequencies(parser: Any) -> None:
    """Give Zynq-7000 clocks their frequencies, which pynqmetadata 0.2.0 looks up for Zynq MPSoC.

    PYNQ 4.0.0 divides by them when it loads an overlay.
    """
    parameters = parser.ip_dict[parser.ps_name]["parameters"]
    for index, clock in parser.clock_dict.items():
        name = f"PCW_ACT_FPGA{index}_PERIPHERAL_FREQMHZ"
        if clock["frequency"] is None and name in parameters:
            clock["frequency"] = float(parameters[name])
