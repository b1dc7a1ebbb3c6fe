"""Stand-ins for bitstreams: read back, by PYNQ's own parser as well, and refused when wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pynq.pl_server.embedded_device import bit2bin, parse_bit_header

from pliant.spec.config import preset
from pliant.spec.platform import PLATFORMS, platform
from pliant_sim.board.bitstream import StandIn, parse_bin, parse_bit
from pliant_sim.board.errors import BitstreamError
from pliant_sim.board.overlay import write_overlay

BOARD, TINY = platform("ultra96"), preset("tiny")
STAND_IN = StandIn.of(BOARD, TINY, "0" * 64)


def test_bit_and_bin_give_what_was_written() -> None:
    data = STAND_IN.to_bit(BOARD.part)
    assert parse_bit(data) == STAND_IN
    assert parse_bin(bit2bin(data)) == STAND_IN


def test_pynq_reads_the_header() -> None:
    header = parse_bit_header(STAND_IN.to_bit(BOARD.part))
    assert header["part"] == BOARD.part
    assert header["design"] == "pliant_tiny"


@pytest.mark.parametrize("data", [b"", b"\0\x09", b"no bitstream at all", bytes(100)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError):
        parse_bit(data)
    with pytest.raises(BitstreamError, match="no stand-in"):
        parse_bin(data)


def test_a_damaged_stand_in_is_refused() -> None:
    data = bit2bin(STAND_IN.to_bit(BOARD.part))
    with pytest.raises(BitstreamError, match="damaged"):
        parse_bin(data[:-40])


def test_another_board_or_configuration_is_refused() -> None:
    STAND_IN.require(BOARD, dataclasses.replace(TINY, name="tiny too"))
    with pytest.raises(BitstreamError, match="board 'ultra96' and configuration 'tiny'"):
        STAND_IN.require(platform("kv260"), TINY)
    with pytest.raises(BitstreamError, match="is 'ultra96' with 'kv260'"):
        STAND_IN.require(BOARD, preset("kv260"))


def test_different_hardware_gives_different_files(tmp_path: Path) -> None:
    files = [write_overlay(tmp_path / name, item, config).read_bytes()
             for name, item in PLATFORMS.items() for config in (None, TINY)]
    assert len(set(files)) == len(files)
    assert write_overlay(tmp_path, BOARD, TINY).read_bytes() == write_overlay(
        tmp_path / "again", BOARD, TINY).read_bytes()
