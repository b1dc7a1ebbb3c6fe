"""``pliant board serve``: says what it serves, ends when told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pliant.cli import main
from pliant.cli.base import FAILURE
from pliant_sim.board.bitstream import parse_bit

TINY = ["board", "serve", "--config", "tiny", "--platform", "pynq_z2", "--port", "0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from pliant.cli import main; main()", *TINY, "--json"],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        assert process.stdout is not None
        served = json.loads("".join(process.stdout.readline() for _ in range(9)))
        assert (served["platform"], served["config"], served["host"]) == (
            "pynq_z2", "tiny", "127.0.0.1")
        assert served["page"] is None
        with socket.create_connection(("127.0.0.1", served["port"]), 5):
            pass
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert json.loads(output) == {"buffers": 0, "buffer_bytes": 0}
    finally:
        process.kill()
        process.wait()


def test_overlay_writes_what_pynq_loads(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["board", "overlay", "--config", "tiny", "--platform",
                                       "pynq_z2", "-o", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert parse_bit(Path(written["bitstream"]).read_bytes()).platform == "pynq_z2"
    assert 'INSTANCE="pliant_core_0"' in Path(written["handoff"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(("options", "words"), [
    (["--config", "tiny"], "no board is built with configuration 'tiny'"),
    (["--platform", "zx81"], "no board is called 'zx81'"),
    (["--config", "zx81"], "no configuration is called 'zx81'"),
])
def test_unknown_hardware_is_one_line_on_stderr(options: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["board", "serve", *options])
    assert result.exit_code == FAILURE
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_taken_port_is_one_line_on_stderr() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(main, [*TINY[:-1], port])
    assert result.exit_code == FAILURE
    assert f"cannot listen at port {port}" in result.stderr


def test_a_taken_port_is_no_more_than_one_line_on_stderr() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = subprocess.run(
            [sys.executable, "-c", "from pliant.cli import main; main()", *TINY[:-1],
             str(taken.getsockname()[1])],
            capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == FAILURE
    assert result.stderr.startswith("pliant: error: cannot listen")
    assert result.stderr.count("\n") == 1


def test_a_port_of_no_page_is_refused() -> None:
    result = CliRunner().invoke(main, [*TINY, "--web-port", "0"])
    assert result.exit_code == FAILURE
    assert "--web-port needs --web" in result.stderr
