"""The core cut into parts that are synthesised one by one, equal ones once."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pliant.spec.config import AcceleratorConfig
from pliant_sim.cache import cache_directory, kept
from pliant_sim.synthesis import flow, rtlil, yosys
from pliant_sim.synthesis.devices import Device
from pliant_sim.synthesis.netlist import Netlist, read_netlist

REPEATED = 4
"""Equal submodules from which they are synthesised once, outside of the module around them."""

OPENED = ("", "engine")
"""Modules whose submodules are synthesised each on its own: those that only join units."""

TOP = "\\pliant_core"


class UnitError(ValueError):
    """No module of the core has this name; the message lists those that may be meant."""


@dataclass(frozen=True)
class Box:
    """A black box: the part that it stands for, whose ports have other names inside."""

    part: Part
    ports: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """One module synthesised out of context: its netlist, in which other parts are black boxes.

    Attributes
    ----------
    netlist : Netlist
    boxes : Mapping of Box
        What each black box stands for, by cell type.
    seconds : float
        Time that Yosys took when the part was synthesised.
    """

    netlist: Netlist
    boxes: Mapping[str, Box]
    seconds: float


def plain_name(instance: str) -> str:
    """Return the name of an instance or module without what makes it unique in RTLIL."""
    return ".".join(part.partition("$")[0] for part in instance.lstrip("\\").split("."))


def unit_paths(modules: Mapping[str, rtlil.Module]) -> dict[str, str]:
    """Return the module of each unit by its path in the core, the core's own path being empty."""
    return {plain_name(name)[len(plain_name(TOP)) + 1:]: name for name in modules}


def find_unit(paths: Mapping[str, str], unit: str) -> str:
    """Return the path of the unit called `unit`, whole or by its end; UnitError if unclear."""
    found = [path for path in paths if path == unit or path.endswith(f".{unit}")]
    shortest = [path for path in found if path.count(".") == min(p.count(".") for p in found)]
    if len(shortest) != 1:
        known = ", ".join(sorted(shortest or (path for path in paths if path.count(".") < 2)))
        raise UnitError(f"no single unit is called {unit!r}; there are {known}")
    return shortest[0]


def synthesize(
    config: AcceleratorConfig, device: Device, unit: str = "",
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[str, Part]:
    """Synthesise the core, or one unit of it, for `device`; return the unit's path and its part.

    Netlists are kept in the user's cache by the content of the part.

    Raises
    ------
    UnitError
        There is no such unit.
    YosysError
        Yosys is missing or failed.
    """
    modules = rtlil.modules(rtlil.core_rtlil(config))
    paths = unit_paths(modules)
    path = find_unit(paths, unit) if unit else ""
    boxed = _boxed(modules, paths)
    done: dict[str, Part] = {}

    def part(name: str) -> tuple[Part, Mapping[int, str]]:
        extract = rtlil.extract(modules, name, boxed - {name})
        key = _key(extract.text, device)
        if key not in done:
            boxes = {}
            for kind, child in extract.boxes.items():
                inner, ports = part(child)
                boxes[kind] = Box(inner, {outside: ports[position] for position, outside
                                          in extract.box_ports[kind].items()})
            label = plain_name(name)[len(plain_name(TOP)) + 1:] or "core"
            netlist, seconds = _netlist(extract.text, device, key, lambda: progress(label))
            done[key] = Part(netlist, boxes, seconds)
        return done[key], extract.ports

    return path, part(paths[path])[0]


def _boxed(modules: Mapping[str, rtlil.Module], paths: Mapping[str, str]) -> frozenset[str]:
    """Return the modules that are synthesised outside of the one around them."""
    boxed = {child for path in OPENED for child in modules[paths[path]].children.values()}
    for module in modules.values():
        texts = {child: rtlil.extract(modules, child).text for child in module.children.values()}
        count = Counter(texts.values())
        boxed |= {child for child, text in texts.items() if count[text] >= REPEATED}
    return frozenset(boxed)


def _key(text: str, device: Device) -> str:
    settings = (flow.FLOW_VERSION, yosys.find().version, device.family, device.uram > 0, text)
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:24]


def _netlist(
    text: str, device: Device, key: str, announce: Callable[[], None]
) -> tuple[Netlist, float]:
    def make() -> bytes:
        announce()
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            netlist = flow.run(text, device.family, Path(directory), uram=device.uram > 0)
        return gzip.compress(f"{time.monotonic() - start:.1f}\n{netlist}".encode(), 3)

    path = cache_directory() / "synthesis" / f"{key}.json.gz"
    seconds, _, netlist = gzip.decompress(kept(path, make)).decode().partition("\n")
    return read_netlist(netlist), float(seconds)
