"""A stand-in for a bitstream: a .bit file that names the hardware instead of holding it.

The header is that of AMD's .bit files: numbered fields, each with its length, big endian.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import Platform
from pliant_sim.board.errors import BitstreamError

_MAGIC = b"pliant stand-in\0"
_FIRST_FIELD = bytes.fromhex("0ff00ff00ff00ff000")
_EPOCH = (b"1970/01/01", b"00:00:00")
"""Date and time of every file, so that equal hardware gives equal files."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """What a stand-in says: board, configuration and its fingerprint, digest of its .hwh file."""

    platform: str
    config: str
    fingerprint: str
    handoff: str

    @classmethod
    def of(cls, platform: Platform, config: AcceleratorConfig, handoff: str) -> StandIn:
        """Return that of a platform and a configuration."""
        return cls(platform=platform.name, config=config.name,
                   fingerprint=f"{config.fingerprint:016x}", handoff=handoff)

    def to_bit(self, part: str) -> bytes:
        """Return a .bit file."""
        payload = _swap(self._payload())
        header = struct.pack(">H", len(_FIRST_FIELD)) + _FIRST_FIELD + struct.pack(">H", 1)
        fields = (f"pliant_{self.config};UserID=0XFFFFFFFF".encode(), part.encode(), *_EPOCH)
        for key, text in zip(b"abcd", fields, strict=True):
            header += struct.pack(">BH", key, len(text) + 1) + text + b"\0"
        return header + struct.pack(">BI", ord("e"), len(payload)) + payload

    def require(self, platform: Platform, config: AcceleratorConfig) -> None:
        """Raise BitstreamError unless the file is for this platform and configuration."""
        found = (self.platform, self.fingerprint)
        if found != (platform.name, f"{config.fingerprint:016x}"):
            raise BitstreamError(
                f"the bitstream is for board {self.platform!r} and configuration {self.config!r} "
                f"({self.fingerprint}); this virtual board is {platform.name!r} with "
                f"{config.name!r} ({config.fingerprint:016x})")

    def _payload(self) -> bytes:
        data = _MAGIC + json.dumps(self.__dict__, sort_keys=True).encode()
        return data + b"\0" * (-len(data) % 4)


def parse_bit(data: bytes) -> StandIn:
    """Return what a .bit file says; BitstreamError if it is no stand-in."""
    try:
        offset = 2 + struct.unpack_from(">H", data)[0] + 2
        while data[offset] != ord("e"):
            offset += 3 + struct.unpack_from(">H", data, offset + 1)[0]
    except (struct.error, IndexError):
        raise BitstreamError("the file has no header of a .bit file") from None
    return parse_bin(_swap(data[offset + 5:]))


def parse_bin(data: bytes) -> StandIn:
    """Return what the .bin form says, which the FPGA manager of a board gets."""
    if not data.startswith(_MAGIC):
        raise BitstreamError(
            "this is no stand-in of a virtual board; real bitstreams cannot be simulated, write "
            "one with write_overlay()")
    try:
        return StandIn(**json.loads(data[len(_MAGIC):].rstrip(b"\0")))
    except (ValueError, TypeError) as error:
        raise BitstreamError(f"the stand-in is damaged: {error}") from None


def _swap(data: bytes) -> bytes:
    """Reverse the bytes of every word: .bit and .bin files differ in that."""
    words = len(data) // 4
    return struct.pack(f">{words}I", *struct.unpack(f"<{words}I", data[:4 * words]))
