"""PYNQ.remote's stock client on a served virtual board, and requests that make no sense."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)
from tests.sim.board.programs import CONFIG

from pliant.spec.platform import platform
from pliant.spec.registers import IDENTIFIER
from pliant_sim.board.bitstream import StandIn
from pliant_sim.board.board import Board
from pliant_sim.board.errors import BoardError
from pliant_sim.board.overlay import write_overlay
from pliant_sim.board.server import REMOTE_ACCESS_CYCLES, BoardServer

BOARD = platform("ultra96")
MANAGER = "/sys/class/fpga_manager/fpga0"
SCRIPT = str(Path(__file__).with_name("remote_client.py"))
Code = grpc.StatusCode


@pytest.fixture
def server() -> Iterator[BoardServer]:
    board = Board(BOARD, CONFIG, access_cycles=REMOTE_ACCESS_CYCLES, memory_bytes=16 << 20)
    with BoardServer(board, port=0) as server:
        yield server


class Client:
    """PYNQ's stubs on one channel."""

    def __init__(self, channel: Any) -> None:
        self.device = remote_device_pb2_grpc.RemoteDeviceStub(channel)
        self.mmio = mmio_pb2_grpc.MmioStub(channel)
        self.buffer = buffer_pb2_grpc.RemoteBufferStub(channel)

    def read_file(self, path: str) -> bytes:
        request = remote_device_pb2.ReadFileRequest(file_path=path)
        return b"".join(item.data for item in self.device.readfile(request))

    def write_file(self, path: str, *chunks: bytes) -> None:
        self.device.writefile(iter([
            remote_device_pb2.WriteFileRequest(file_path=path, data=chunk) for chunk in chunks]))

    def exists(self, path: str) -> bool:
        request = remote_device_pb2.ExistsFileRequest(file_path=path)
        return bool(self.device.existsfile(request).exists)

    def load(self, stand_in: StandIn) -> None:
        data = stand_in.to_bit("part")
        from pynq.pl_server.embedded_device import bit2bin

        self.write_file("/lib/firmware/pliant.bin", bit2bin(data))
        self.write_file(f"{MANAGER}/firmware", b"pliant.bin")

    def map(self, base: int, length: int) -> str:
        return str(self.mmio.get_mmio(
            mmio_pb2.GetMmioRequest(base_addr=base, length=length)).mmio_id)

    def read(self, name: str, offset: int, length: int = 4, word_order: str = "little") -> int:
        return int(self.mmio.read(mmio_pb2.ReadRequest(
            mmio_id=name, offset=offset, length=length, word_order=word_order)).data)

    def write(self, name: str, offset: int, data: bytes) -> None:
        self.mmio.write(mmio_pb2.WriteRequest(mmio_id=name, offset=offset, data=data))

    def allocate(self, size: int) -> str:
        return str(self.buffer.allocate(
            buffer_pb2.AllocateRequest(size=size, dtype="u1", cacheable=True)).buffer_id)


@pytest.fixture
def client(server: BoardServer) -> Iterator[Client]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Client(channel)


@pytest.fixture
def core(client: Client) -> str:
    """A range over the core's registers, with a bitstream loaded."""
    client.load(StandIn.of(BOARD, CONFIG, ""))
    return client.map(BOARD.core_address, 0x1000)


class Refused:
    """Expects a gRPC error of a code, whose details hold some words."""

    def __init__(self, code: Any, words: str) -> None:
        self.code, self.words = code, words

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        assert isinstance(error, grpc.RpcError), f"no gRPC error: {error!r}"
        assert (error.code(), self.words in error.details()) == (self.code, True), error.details()
        return True


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a client of PYNQ.remote, with this process's modules."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
             "PYNQ_REMOTE_DEVICES": "127.0.0.1"})


def test_the_stock_client_runs_a_program_exactly(server: BoardServer, tmp_path: Path) -> None:
    bitstream = write_overlay(tmp_path, BOARD, CONFIG)
    done = run_python(SCRIPT, str(bitstream), str(server.port), "2000")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["connected ultra96 aarch64", "loaded 0xa0000000",
                         f"fingerprint {CONFIG.fingerprint:#x}"]
    assert lines[3].startswith("exact after")
    assert not server.board.memory.live


def test_pynq_s_own_self_test_passes(server: BoardServer, tmp_path: Path) -> None:
    bitstream = write_overlay(tmp_path, BOARD, CONFIG)
    done = run_python("-m", "pynq.remote.selftest", "--ip", "127.0.0.1", "--port", str(server.port),
                      "--bitstream", str(bitstream))
    failed = [line.strip() for line in done.stdout.splitlines() if "[FAIL]" in line]
    assert failed == ["[FAIL] no AXI GPIO in the overlay to MMIO-test"], done.stdout + done.stderr
    assert "10 passed" in done.stdout


def test_a_zynq_7000_overlay_still_fails_in_the_stock_client(tmp_path: Path) -> None:
    # PYNQ 4.0.0 divides by a clock frequency that pynqmetadata 0.2.0 does not find.
    board = platform("pynq_z2")
    bitstream = write_overlay(tmp_path, board, CONFIG)
    with BoardServer(Board(board, CONFIG), port=0) as server:
        done = run_python(SCRIPT, str(bitstream), str(server.port), "2000")
    assert "connected pynq_z2 armv7l" in done.stdout
    assert "TypeError: unsupported operand" in done.stderr


def test_registers_answer_once_a_bitstream_is_loaded(client: Client) -> None:
    core = client.map(BOARD.core_address, 0x1000)
    with Refused(Code.OUT_OF_RANGE, "no bitstream loaded"):
        client.read(core, 0)
    assert client.read_file(f"{MANAGER}/state") == b"unknown\n"
    client.load(StandIn.of(BOARD, CONFIG, ""))
    assert client.read_file(f"{MANAGER}/state") == b"operating\n"
    assert client.read(core, 0) == IDENTIFIER
    client.write(core, 0x2C, bytes.fromhex("78563412"))
    assert (client.read(core, 0x2C), client.read(core, 0x2C, 1)) == (0x12345678, 0x78)


def test_eight_bytes_are_read_where_the_answer_holds_them(client: Client, core: str) -> None:
    assert client.read(core, 0x38, 8) == 0
    with Refused(Code.INVALID_ARGUMENT, "read two words"):
        client.read(core, 0x08, 8)


def test_registers_that_there_are_not_are_refused(client: Client, core: str) -> None:
    with Refused(Code.NOT_FOUND, "no range is called 'nothing'"):
        client.read("nothing", 0)
    with Refused(Code.INVALID_ARGUMENT, "of a range of 4096"):
        client.read(core, 0x1000)
    with Refused(Code.INVALID_ARGUMENT, "multiple of 4"):
        client.read(core, 2)
    with Refused(Code.INVALID_ARGUMENT, "allowed are 1, 2, 4 and 8"):
        client.read(core, 0, 3)
    with Refused(Code.INVALID_ARGUMENT, "allowed are little and big"):
        client.read(core, 0, 8, "middle")
    with Refused(Code.INVALID_ARGUMENT, "a multiple of 4 is needed"):
        client.write(core, 0, b"abc")
    with Refused(Code.INVALID_ARGUMENT, "a multiple of 4 is needed"):
        client.write(core, 0, b"")
    with Refused(Code.OUT_OF_RANGE, "nothing answers at address 0x1234"):
        client.read(client.map(0x1234, 4), 0)
    with Refused(Code.INVALID_ARGUMENT, "range at 0x1"):
        client.map(1, 4)
    with Refused(Code.INVALID_ARGUMENT, "of 0 bytes"):
        client.map(0, 0)
    assert client.read(core, 0) == IDENTIFIER, "the server goes on"


def test_buffers_that_there_are_not_are_refused(client: Client, server: BoardServer) -> None:
    stub, name = client.buffer, client.allocate(100)
    for method, request in (
        (stub.freebuffer, buffer_pb2.FreeBufferRequest(buffer_id="x")),
        (stub.flush, buffer_pb2.FlushRequest(buffer_id="x")),
        (stub.invalidate, buffer_pb2.InvalidateRequest(buffer_id="x")),
        (stub.physical_address, buffer_pb2.AddressRequest(buffer_id="x")),
        (stub.virtual_address, buffer_pb2.AddressRequest(buffer_id="x")),
        (stub.cacheable, buffer_pb2.CacheableRequest(buffer_id="x")),
    ):
        with Refused(Code.NOT_FOUND, "no buffer is called 'x'"):
            method(request)
    for size in (0, -5):
        with Refused(Code.INVALID_ARGUMENT, "1 byte or more"):
            client.allocate(size)
    with Refused(Code.RESOURCE_EXHAUSTED, "no room for 1000000000 bytes"):
        client.allocate(10**9)
    with Refused(Code.INVALID_ARGUMENT, "101 bytes for the 100"):
        stub.write(iter([buffer_pb2.BufferWriteRequest(buffer_id=name, data=bytes(101))]))
    with Refused(Code.INVALID_ARGUMENT, "no chunk"):
        stub.write(iter([]))
    with Refused(Code.INVALID_ARGUMENT, "must name one buffer"):
        stub.write(iter([buffer_pb2.BufferWriteRequest(buffer_id=item, data=b"1")
                         for item in (name, "y")]))
    with Refused(Code.INVALID_ARGUMENT, "start and end must be 0"):
        list(stub.read(buffer_pb2.BufferReadRequest(buffer_id=name, start=1, end=2)))
    stub.freebuffer(buffer_pb2.FreeBufferRequest(buffer_id=name))
    with Refused(Code.NOT_FOUND, "no buffer is called"):
        stub.freebuffer(buffer_pb2.FreeBufferRequest(buffer_id=name))
    assert not server.board.memory.live


def test_large_buffers_travel_in_chunks(client: Client, server: BoardServer) -> None:
    stub, size = client.buffer, 9_000_001
    name = client.allocate(size)
    data = bytes(range(256)) * (size // 256 + 1)
    stub.write(iter([buffer_pb2.BufferWriteRequest(buffer_id=name, data=data[at:at + (2 << 20)])
                     for at in range(0, size - (2 << 20), 2 << 20)]))
    received = list(stub.read(buffer_pb2.BufferReadRequest(buffer_id=name)))
    assert [len(item.data) for item in received] == [2 << 20] * 4 + [size - (8 << 20)]
    assert received[1].data == data[2 << 20:4 << 20]
    memory = server.board.memory
    assert memory.device_bytes[:256].tolist() != list(range(256))
    stub.flush(buffer_pb2.FlushRequest(buffer_id=name))
    assert memory.device_bytes[:256].tolist() == list(range(256))


def test_files_that_a_board_does_not_have_are_refused(client: Client) -> None:
    assert client.exists("/proc/version")
    assert not client.exists("/etc/passwd")
    with Refused(Code.NOT_FOUND, "no file '/etc/passwd'"):
        client.read_file("/etc/passwd")
    for path in ("/etc/passwd", "/tmp/deeper/file", "/proc/version", "relative", ""):
        with Refused(Code.NOT_FOUND, "must not be written"):
            client.write_file(path, b"x")
    with Refused(Code.INVALID_ARGUMENT, "must name one file"):
        client.write_file("/tmp/file")
    client.write_file("/tmp/file", b"a" * 3_000_000, b"b")
    assert client.read_file("/tmp/file") == b"a" * 3_000_000 + b"b"


def test_firmware_is_always_sent_again(client: Client) -> None:
    client.write_file("/lib/firmware/pliant.bin", b"old")
    assert not client.exists("/lib/firmware/pliant.bin")


def test_bitstreams_that_do_not_fit_are_refused(client: Client) -> None:
    with Refused(Code.FAILED_PRECONDITION, "board 'kv260'"):
        client.load(StandIn.of(platform("kv260"), CONFIG, ""))
    client.write_file("/lib/firmware/real.bin", bytes(1000))
    with Refused(Code.FAILED_PRECONDITION, "no stand-in"):
        client.write_file(f"{MANAGER}/firmware", b"real.bin")
    with Refused(Code.NOT_FOUND, "no file '/lib/firmware/absent.bin'"):
        client.write_file(f"{MANAGER}/firmware", b"absent.bin")
    with Refused(Code.NOT_FOUND, "flags must be 0"):
        client.write_file(f"{MANAGER}/flags", b"1")
    with Refused(Code.INVALID_ARGUMENT, "no partial bitstreams"):
        client.device.set_bitstream_attrs(
            remote_device_pb2.SetBitstreamAttrsRequest(binfile_name="x", partial=True))


def test_bytes_that_are_no_message_are_a_grpc_error(server: BoardServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/buffer.RemoteBuffer/allocate")
        with pytest.raises(grpc.RpcError):
            call(b"\xff\xff\xff")
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/gpio.Gpio/get_gpio")(b"")
        assert caught.value.code() == Code.UNIMPLEMENTED
        client = Client(channel)
        assert client.exists("/proc/version"), "the server goes on"


def test_random_bytes_do_not_stop_the_server(server: BoardServer) -> None:
    seed = 7
    rng, codes = random.Random(seed), Counter[Any]()
    services = [item.DESCRIPTOR.services_by_name[name] for item, name in (
        (remote_device_pb2, "RemoteDevice"), (mmio_pb2, "Mmio"), (buffer_pb2, "RemoteBuffer"))]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for service in services:
            for method in service.methods:
                call = channel.stream_stream(f"/{service.full_name}/{method.name}")
                for _ in range(20):
                    chunks = [rng.randbytes(rng.randrange(12)) for _ in range(rng.randrange(3))]
                    try:
                        list(call(iter(chunks), timeout=20))
                    except grpc.RpcError as error:
                        codes[error.code()] += 1
        assert Client(channel).exists("/proc/version"), f"seed {seed}"
    assert codes[Code.INTERNAL] > 0, "bytes that are no message"
    assert codes[Code.NOT_FOUND] > 0, "messages that name what there is not"
    assert Code.DEADLINE_EXCEEDED not in codes


def test_a_taken_port_is_an_error(server: BoardServer) -> None:
    board = Board(BOARD, CONFIG)
    with pytest.raises(BoardError, match=f"cannot listen at port {server.port}"):
        BoardServer(board, port=server.port)
    board.close()
