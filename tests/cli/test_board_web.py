"""`board serve --web`: the page beside the virtual board, until a signal ends both."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytestmark = pytest.mark.slow

SERVE = [sys.executable, "-c", "from pliant.cli import main; main()", "board", "serve", "--web",
         "--config", "tiny", "--platform", "ultra96", "--port", "0"]


def test_the_page_is_served_until_a_signal_comes():
    with subprocess.Popen([*SERVE, "--web-port", "0", "--json"], stdout=subprocess.PIPE,
                          text=True) as server:
        text = ""
        while not text.endswith("}\n"):
            line = server.stdout.readline()
            assert line, "the server ended"
            text += line
        page = json.loads(text)["page"]
        with urllib.request.urlopen(f"{page}about", timeout=60) as response:
            assert json.load(response)["config"] == "tiny"
        server.send_signal(signal.SIGTERM)
        rest, _ = server.communicate(timeout=60)
    assert server.returncode == 0
    assert json.loads(rest) == {"buffers": 0, "buffer_bytes": 0}


def test_a_taken_port_is_explained():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run([*SERVE, "--web-port", str(port)], capture_output=True, text=True,
                                timeout=120, check=False)
    assert result.returncode == 2
    assert str(port) in result.stderr
    assert "Traceback" not in result.stderr
