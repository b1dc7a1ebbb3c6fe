"""The units of a core placed and routed on an ECP5: a clock that every machine can reproduce."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pliant.spec.config import AcceleratorConfig
from pliant_sim.cache import cache_directory, kept
from pliant_sim.synthesis import nextpnr, rtlil, yosys
from pliant_sim.synthesis.devices import Device
from pliant_sim.synthesis.netlist import read_netlist
from pliant_sim.synthesis.parts import OPENED, UnitError, find_unit, plain_name, unit_paths
from pliant_sim.synthesis.placement import CriticalPath, Placement, overfull, read_placement

VERSION = 1
"""To be raised when the content of cached results changes."""

SCRIPT = ("read_rtlil unit.il", "synth_ecp5 -top unit", "delete t:$scopeinfo",
          "write_json unit.json")


@dataclass(frozen=True, kw_only=True)
class PlacedUnit:
    """One unit: its path in the core, its placement, and the time that both programs took."""

    path: str
    placement: Placement
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What ``pliant synth --ecp5`` shows.

    Attributes
    ----------
    config, device, yosys, nextpnr, array_kind : str
    units : list of PlacedUnit
        In the order of the hierarchy.
    """

    config: str
    device: str
    yosys: str
    nextpnr: str
    array_kind: str
    units: list[PlacedUnit]


def yardstick(
    config: AcceleratorConfig, device: Device, unit: str = "", *, plain_array: bool = False,
    progress: Callable[[str], None] = lambda name: None,
    finished: Callable[[PlacedUnit], None] = lambda placed: None,
) -> Yardstick:
    """Place and route each unit of the core of `config`, or one alone, on an ECP5.

    Units are whole, flattened and out of context; those that only join others are left out. The
    matrix array is the one packed for the DSP slice of `device`, in its description for simulators,
    unless `plain_array`. Results are kept in the user's cache by the content of the unit.

    Raises
    ------
    UnitError
        There is no such unit.
    YosysError, NextpnrError
        The program is missing or failed.
    """
    dsp = None if plain_array else device.dsp_slice
    modules = rtlil.modules(rtlil.core_rtlil(config, dsp, primitive=False))
    paths = unit_paths(modules)
    placed = []
    for path, name in _units(modules, paths, find_unit(paths, unit) if unit else "").items():
        progress(path)
        try:
            placement, seconds = _kept_placement(rtlil.extract(modules, name).text)
        except nextpnr.NextpnrError as error:
            raise nextpnr.NextpnrError(f"unit {path}: {error}") from error
        placed.append(PlacedUnit(path=path, placement=placement, seconds=seconds))
        finished(placed[-1])
    return Yardstick(
        config=config.name, device=nextpnr.DEVICE, yosys=yosys.find().version,
        nextpnr=nextpnr.find().version, units=placed,
        array_kind="plain array" if plain_array else f"array packed for {device.dsp_slice}")


def _units(
    modules: dict[str, rtlil.Module], paths: dict[str, str], path: str
) -> dict[str, str]:
    """Return the modules of the units at or below `path`, by path."""
    if path not in OPENED:
        return {path: paths[path]}
    result = {}
    for instance, name in modules[paths[path]].children.items():
        below = ".".join(part for part in (path, plain_name(instance)) if part)
        if paths.get(below) != name:
            raise UnitError(f"module {name!r} is not at path {below!r} of the core")
        result.update(_units(modules, paths, below))
    return result


def _kept_placement(text: str) -> tuple[Placement, float]:
    settings = (VERSION, SCRIPT, yosys.find().version, nextpnr.find().version, nextpnr.OPTIONS,
                text)
    key = hashlib.sha256(repr(settings).encode()).hexdigest()
    path = cache_directory() / "synthesis" / f"ecp5-{key[:24]}.json.gz"
    content = json.loads(gzip.decompress(kept(path, lambda: _made(text))))
    fields = content["placement"]
    if fields["path"] is not None:
        fields["path"] = CriticalPath(**fields["path"])
    return Placement(**fields), content["seconds"]


def _made(text: str) -> bytes:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        placement = place(text, Path(name))
    content = {"placement": dataclasses.asdict(placement),
               "seconds": round(time.monotonic() - start, 1)}
    return gzip.compress(json.dumps(content).encode())


def place(text: str, directory: Path) -> Placement:
    """Synthesise, place and route module ``unit`` of RTLIL `text`, with files in `directory`.

    Raises
    ------
    YosysError, NextpnrError
        The program is missing or failed; that a unit is too big is no failure.
    """
    (directory / "unit.il").write_text(text)
    yosys.run(SCRIPT, directory)
    status, log = nextpnr.run(directory)
    report = directory / "placed.json"
    if status or not report.exists():
        placement = overfull(log)
        if placement is None:
            tail = "\n".join(log.splitlines()[-20:])
            raise nextpnr.NextpnrError(f"nextpnr-ecp5 failed with status {status}:\n{tail}")
        return placement
    return read_placement(report.read_text(), read_netlist((directory / "unit.json").read_text()))
