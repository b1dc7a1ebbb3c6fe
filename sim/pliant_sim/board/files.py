"""The files of a board's Linux that PYNQ.remote reads and writes."""

from __future__ import annotations

from pathlib import PurePosixPath

from pliant.spec.platform import SIMULATED_RATE_FILE
from pliant_sim.board.bitstream import parse_bin
from pliant_sim.board.board import CYCLES_PER_SECOND, Board
from pliant_sim.board.errors import BoardError

_MANAGER = "/sys/class/fpga_manager/fpga0"
FIRMWARE = "/lib/firmware"
WRITABLE = (FIRMWARE, "/tmp")
LIMIT_BYTES = 256 << 20
"""Bytes that all written files together may have."""


class FileError(BoardError):
    """A file that does not exist, or must not be written."""


class BoardFiles:
    """Some files of Linux on a Zynq, in memory; writing the FPGA manager's loads a bitstream.

    Parameters
    ----------
    board : Board
    """

    def __init__(self, board: Board) -> None:
        machine = "armv7l" if board.platform.family == "zynq" else "aarch64"
        self._board = board
        self._fixed = {
            "/proc/version": f"Linux version 0.0.0-pliant (virtual board) {machine}\n".encode(),
            "/proc/device-tree/chosen/pynq_board": board.platform.name.encode() + b"\0",
            SIMULATED_RATE_FILE: f"{CYCLES_PER_SECOND}\n".encode(),
        }
        self._flags = b"0"
        self._written: dict[str, bytes] = {}

    def exists(self, path: str) -> bool:
        """Return whether a file exists.

        Firmware never does: PYNQ would take a file of the same name for that of its bitstream and
        not send it.
        """
        if path.startswith(FIRMWARE + "/"):
            return False
        try:
            self.read(path)
        except FileError:
            return False
        return True

    def read(self, path: str) -> bytes:
        """Return the content of a file; FileError if there is none."""
        if path == f"{_MANAGER}/state":
            return b"operating\n" if self._board.loaded else b"unknown\n"
        if path == f"{_MANAGER}/flags":
            return self._flags + b"\n"
        found = self._fixed.get(path, self._written.get(path))
        if found is None:
            raise FileError(f"the virtual board has no file {path!r}")
        return found

    def write(self, path: str, data: bytes) -> None:
        """Write a file.

        Raises
        ------
        FileError
            It is not one that a board's PYNQ writes, or there is no room.
        BitstreamError
            Writing it loads a bitstream, which is not for this board.
        """
        if path == f"{_MANAGER}/flags":
            if data.strip() != b"0":
                raise FileError("a virtual board has no partial bitstreams: flags must be 0, "
                                f"found {data[:20]!r}")
            self._flags = data.strip()
        elif path == f"{_MANAGER}/firmware":
            name = data.strip().decode("utf-8", "replace")
            self._board.load(parse_bin(self.read(f"{FIRMWARE}/{name}")))
        elif str(PurePosixPath(path).parent) in WRITABLE:
            used = sum(len(item) for key, item in self._written.items() if key != path)
            if used + len(data) > LIMIT_BYTES:
                raise FileError(f"{path!r} with {len(data)} bytes does not fit: the virtual board "
                                f"keeps {LIMIT_BYTES} bytes of files, {used} are in use")
            self._written[path] = data
        else:
            raise FileError(f"{path!r} must not be written; allowed are files in "
                            f"{', '.join(WRITABLE)} and the FPGA manager's flags and firmware")
