"""A virtual board for PYNQ.remote: the stock client uses it as it uses a board on the network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from pynq.remote import buffer_pb2_grpc, mmio_pb2_grpc, remote_device_pb2_grpc

from pliant_sim.board.board import Board
from pliant_sim.board.errors import BoardError
from pliant_sim.board.files import BoardFiles
from pliant_sim.board.services import BufferService, DeviceService, MmioService
from pliant_sim.closing import Closing

PORT = 7967
"""Where PYNQ.remote's client looks."""

LOOPBACK = "127.0.0.1"
REMOTE_ACCESS_CYCLES = 50_000
"""What a register access over a network costs, in cycles of the core: half a millisecond."""

_GRACE_S = 2.0


class BoardServer(Closing):
    """Serves one board until it is closed; whoever reaches the port may use it.

    Parameters
    ----------
    board : Board
        Closed with the server.
    host : str
        Address to listen at; loopback, unless asked otherwise.
    port : int
        0 for any that is free.

    Attributes
    ----------
    port : int
        The port it listens at.

    Raises
    ------
    BoardError
        The port is taken.
    """

    def __init__(self, board: Board, *, host: str = LOOPBACK, port: int = PORT) -> None:
        self.board = board
        self.host = host
        # Without this option, a second server would share the port and get half the requests.
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4, thread_name_prefix="board"),
                                   options=(("grpc.so_reuseport", 0),))
        remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server(
            DeviceService(BoardFiles(board)), self._server)
        mmio_pb2_grpc.add_MmioServicer_to_server(MmioService(board), self._server)
        buffer_pb2_grpc.add_RemoteBufferServicer_to_server(BufferService(board), self._server)
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise BoardError(f"cannot listen at port {port} of {host}: the port is taken or not "
                             "allowed, or the address is none of this machine's; give another "
                             "--port or --host") from error

    def start(self) -> None:
        """Answer requests from now on."""
        self._server.start()

    def close(self) -> None:
        """Let requests that run end, for two seconds at most, and close the board."""
        self._server.stop(_GRACE_S).wait()
        self.board.close()

    def __enter__(self) -> BoardServer:
        self.start()
        return self
