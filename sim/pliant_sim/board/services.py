"""The gRPC services of PYNQ.remote over a virtual board.

A request that makes no sense ends with a gRPC error that says why; the server goes on.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from pliant_sim.board.board import Board
from pliant_sim.board.errors import BitstreamError, BoardError, BusError
from pliant_sim.board.files import LIMIT_BYTES, BoardFiles, FileError
from pliant_sim.board.memory import Allocation
from pliant_sim.core import RtlError

CHUNK_BYTES = 2 << 20
"""Bytes in a message of a stream, as PYNQ's client cuts them; gRPC allows 4 MiB."""

_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (BusError, grpc.StatusCode.OUT_OF_RANGE),
    (BitstreamError, grpc.StatusCode.FAILED_PRECONDITION),
    (FileError, grpc.StatusCode.NOT_FOUND),
    (BoardError, grpc.StatusCode.FAILED_PRECONDITION),
    (RtlError, grpc.StatusCode.INTERNAL),
    (MemoryError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (KeyError, grpc.StatusCode.NOT_FOUND),
    (ValueError, grpc.StatusCode.INVALID_ARGUMENT),
)
"""First match counts."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _fail(context: Any, error: Exception) -> None:
    code = next((code for kind, code in _CODES if isinstance(error, kind)),
                grpc.StatusCode.UNKNOWN)
    context.abort(code, str(error.args[0]) if error.args else str(error))


def _answers(method: _Method) -> _Method:
    """Turn what goes wrong in a method into a gRPC error."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except tuple(kind for kind, _ in _CODES) as error:
            _fail(context, error)

    return call  # type: ignore[return-value]


def _answers_stream(method: _Method) -> _Method:
    """Do the same for a method that yields its answers."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from method(self, request, context)
        except tuple(kind for kind, _ in _CODES) as error:
            _fail(context, error)

    return call  # type: ignore[return-value]


class DeviceService(remote_device_pb2_grpc.RemoteDeviceServicer):  # type: ignore[misc]
    """Files, and through them bitstreams."""

    def __init__(self, files: BoardFiles) -> None:
        self._files = files

    @_answers
    def existsfile(self, request: Any, context: Any) -> Any:
        """Return whether a file exists."""
        return remote_device_pb2.ExistsFileResponse(exists=self._files.exists(request.file_path))

    @_answers_stream
    def readfile(self, request: Any, context: Any) -> Iterator[Any]:
        """Yield the content of a file."""
        for chunk in _chunks(self._files.read(request.file_path)):
            yield remote_device_pb2.ReadFileResponse(data=chunk)

    @_answers
    def writefile(self, request: Iterator[Any], context: Any) -> Any:
        """Write a file from chunks that all name it."""
        paths, data = set(), bytearray()
        for item in request:
            paths.add(item.file_path)
            data += item.data
            if len(data) > LIMIT_BYTES:
                raise ValueError(f"a file of more than {LIMIT_BYTES} bytes")
        if len(paths) != 1:
            raise ValueError(f"a stream must name one file, found {sorted(paths)}")
        self._files.write(paths.pop(), bytes(data))
        return remote_device_pb2.WriteFileResponse()

    @_answers
    def set_bitstream_attrs(self, request: Any, context: Any) -> Any:
        """Accept full bitstreams."""
        if request.partial:
            raise ValueError("a virtual board has no partial bitstreams")
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)


class MmioService(mmio_pb2_grpc.MmioServicer):  # type: ignore[misc]
    """Registers by absolute address; a handle names a range."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._ranges: dict[str, tuple[int, int]] = {}

    @_answers
    def get_mmio(self, request: Any, context: Any) -> Any:
        """Return a handle for a range, the same one each time."""
        base, length = request.base_addr, request.length
        if base % 4 or not 0 < length <= 1 << 32:
            raise ValueError(f"range at {base:#x} of {length} bytes: the address must be a "
                             "multiple of 4, the length 1 to 2^32")
        name = f"{base:#x}+{length:#x}"
        self._ranges[name] = (base, length)
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=name)

    @_answers
    def read(self, request: Any, context: Any) -> Any:
        """Return 1, 2 or 4 bytes of a register, or 8 of two if the answer's 32 bits hold them."""
        if request.length not in (1, 2, 4, 8):
            raise ValueError(f"length = {request.length}: allowed are 1, 2, 4 and 8")
        if request.length == 8 and request.word_order not in ("little", "big"):
            raise ValueError(f"word_order = {request.word_order!r}: allowed are little and big")
        address = self._address(request, max(4, request.length))
        value = self._board.read(address)
        if request.length == 8:
            other = self._board.read(address + 4)
            value = value | other << 32 if request.word_order == "little" else value << 32 | other
            if value >> 32:
                raise ValueError(f"{value:#x} does not fit the 32 bits of PYNQ.remote's answer; "
                                 "read two words of 4 bytes")
        else:
            value &= (1 << 8 * request.length) - 1
        return mmio_pb2.ReadResponse(status=True, data=value)

    @_answers
    def write(self, request: Any, context: Any) -> Any:
        """Write words of 4 bytes."""
        data = request.data
        if not data or len(data) % 4:
            raise ValueError(f"{len(data)} bytes of data: a multiple of 4 is needed")
        address = self._address(request, len(data))
        for offset in range(0, len(data), 4):
            self._board.write(address + offset,
                              int.from_bytes(data[offset:offset + 4], "little"))
        return mmio_pb2.WriteResponse(status=True)

    def _address(self, request: Any, nbytes: int) -> int:
        try:
            base, length = self._ranges[request.mmio_id]
        except KeyError:
            raise KeyError(f"no range is called {request.mmio_id!r}") from None
        # PYNQ asks for ranges of 4 bytes and reads words; a shorter range is one word.
        if request.offset % 4 or request.offset + nbytes > max(4, length):
            raise ValueError(f"bytes {request.offset} to {request.offset + nbytes} of a range of "
                             f"{length}: the offset must be a multiple of 4 inside it")
        return base + int(request.offset)


class BufferService(buffer_pb2_grpc.RemoteBufferServicer):  # type: ignore[misc]
    """Buffers: their bytes travel to the board's processor, whose cache is the board's."""

    def __init__(self, board: Board) -> None:
        self._memory = board.memory
        self._buffers: dict[str, Allocation] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @_answers
    def allocate(self, request: Any, context: Any) -> Any:
        """Allocate `size` bytes."""
        with self._lock:
            allocation = self._memory.allocate(request.size, uncached=not request.cacheable)
            name = f"buffer{next(self._numbers)}"
            self._buffers[name] = allocation
        return buffer_pb2.AllocateResponse(buffer_id=name)

    @_answers
    def freebuffer(self, request: Any, context: Any) -> Any:
        """Free a buffer."""
        with self._lock:
            self._memory.free(self._find(request))
            del self._buffers[request.buffer_id]
        return buffer_pb2.FreeBufferResponse()

    @_answers
    def write(self, request: Iterator[Any], context: Any) -> Any:
        """Write a buffer from its first byte on, from chunks that all name it."""
        position, name = 0, None
        for item in request:
            if name not in (None, item.buffer_id):
                raise ValueError(f"a stream must name one buffer, found {name!r} and "
                                 f"{item.buffer_id!r}")
            name = item.buffer_id
            _require_whole(item)
            with self._lock:
                view = self._memory.host_view(self._find(item))
                end = position + len(item.data)
                if end > len(view):
                    raise ValueError(f"{end} bytes for the {len(view)} of {name!r}")
                view[position:end] = memoryview(item.data)
            position = end
        if name is None:
            raise ValueError("a stream with no chunk")
        return buffer_pb2.BufferWriteResponse()

    @_answers_stream
    def read(self, request: Any, context: Any) -> Iterator[Any]:
        """Yield the bytes of a buffer."""
        _require_whole(request)
        with self._lock:
            data = self._memory.host_view(self._find(request)).tobytes()
        for chunk in _chunks(data):
            yield buffer_pb2.BufferReadResponse(data=chunk)

    @_answers
    def flush(self, request: Any, context: Any) -> Any:
        """Make a buffer visible to the core."""
        with self._lock:
            allocation = self._find(request)
            self._memory.flush(allocation, 0, allocation.nbytes)
        return buffer_pb2.FlushResponse()

    @_answers
    def invalidate(self, request: Any, context: Any) -> Any:
        """Make what the core wrote visible to the processor."""
        with self._lock:
            allocation = self._find(request)
            self._memory.invalidate(allocation, 0, allocation.nbytes)
        return buffer_pb2.InvalidateResponse()

    @_answers
    def physical_address(self, request: Any, context: Any) -> Any:
        """Return where the core finds a buffer."""
        with self._lock:
            return buffer_pb2.AddressResponse(address=self._find(request).address)

    @_answers
    def virtual_address(self, request: Any, context: Any) -> Any:
        """Return the same address: the board's processor has no others."""
        return self.physical_address(request, context)

    @_answers
    def cacheable(self, request: Any, context: Any) -> Any:
        """Return whether a buffer needs flush and invalidate."""
        with self._lock:
            return buffer_pb2.CacheableResponse(cacheable=not self._find(request).uncached)

    def _find(self, request: Any) -> Allocation:
        try:
            return self._buffers[request.buffer_id]
        except KeyError:
            raise KeyError(f"no buffer is called {request.buffer_id!r}") from None


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start:start + CHUNK_BYTES]


def _require_whole(request: Any) -> None:
    if request.start or request.end:
        raise ValueError("parts of buffers are not supported: start and end must be 0")
