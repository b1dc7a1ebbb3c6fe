"""A unit placed and routed on its own device by ``nextpnr-xilinx``, where a user has it.

The program is an experiment and comes in no package: it is built from source, and each device needs
a database, which takes hours to make and gigabytes to keep. It routes 7 series devices, and
UltraScale+ with fewer cells: no cascades of DSPs there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pliant.spec.config import AcceleratorConfig
from pliant_sim.synthesis import flow, rtlil, yosys
from pliant_sim.synthesis.devices import Device
from pliant_sim.synthesis.nextpnr import NextpnrError
from pliant_sim.synthesis.parts import find_unit, unit_paths

PROGRAM = "nextpnr-xilinx"

_FREQUENCY = re.compile(
    r"^(?:Info|Warning|ERROR): Max frequency for clock +'([^']+)': ([\d.]+) MHz "
    r"\((PASS|FAIL) at ([\d.]+) MHz\)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A clock of a routed unit: the frequency it reaches and the one it was to reach."""

    name: str
    megahertz: float
    target: float


@dataclass(frozen=True, kw_only=True)
class RoutedUnit:
    """What ``pliant synth --nextpnr`` shows; `unit` is empty for the whole core."""

    config: str
    unit: str
    device: str
    nextpnr: str
    yosys: str
    clocks: list[Clock]
    seconds: float


def route(
    config: AcceleratorConfig, device: Device, unit: str, chipdb: Path, *, plain_array: bool = False
) -> RoutedUnit:
    """Synthesise a unit of the core of `config` for `device`, then place and route it there.

    The unit is flattened and out of context; the target is the clock of the configuration.

    Raises
    ------
    UnitError
        There is no such unit.
    YosysError, NextpnrError
        The program is missing or failed, or the database is.
    """
    program = find()
    if not chipdb.is_file():
        raise NextpnrError(f"{chipdb}: no such chip database")
    start = time.monotonic()
    modules = rtlil.modules(
        rtlil.core_rtlil(config, None if plain_array else device.dsp_slice, primitive=True))
    paths = unit_paths(modules)
    path = find_unit(paths, unit) if unit else ""
    with tempfile.TemporaryDirectory() as name:
        (netlist,) = flow.run([rtlil.extract(modules, paths[path]).text], device.family, Path(name),
                              uram=bool(device.uram))
    with tempfile.TemporaryDirectory() as name:
        log = run(program, netlist, chipdb, config.board.clock_mhz, Path(name))
    return RoutedUnit(
        config=config.name, unit=path, device=device.name, nextpnr=_version(program),
        yosys=yosys.find().version, clocks=read_clocks(log),
        seconds=round(time.monotonic() - start, 1))


def find() -> str:
    """Return the path of the program; NextpnrError if there is none."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise NextpnrError(f"no {PROGRAM} is on the path; it has to be built from source, see "
                           "the documentation's page on area and clock")
    return program


def run(program: str, netlist: str, chipdb: Path, megahertz: float, directory: Path) -> str:
    """Place and route a netlist of Yosys with module ``unit``; return the log.

    Raises
    ------
    NextpnrError
        It failed; with the end of the log.
    """
    (directory / "unit.json").write_text(netlist)
    # A seed, for the figure depends on it; no pads, for a unit may have thousands of ports.
    result = subprocess.run(
        [program, "--chipdb", str(chipdb.resolve()), "--json", "unit.json", "--top", "unit",
         "--out-of-context", "--freq", str(megahertz), "--timing-allow-fail", "--seed", "1"],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-20:])
        raise NextpnrError(f"{PROGRAM} failed with status {result.returncode}:\n{tail}")
    return result.stdout


def read_clocks(log: str) -> list[Clock]:
    """Return the clocks that a log reports last, after routing; NextpnrError if none."""
    found = {name: Clock(name=name, megahertz=float(reached), target=float(target))
             for name, reached, _, target in _FREQUENCY.findall(log)}
    if not found:
        raise NextpnrError(f"{PROGRAM} reports no maximum frequency: no path joins two registers")
    return list(found.values())


def _version(program: str) -> str:
    result = subprocess.run([program, "--version"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    return result.stdout.strip()
