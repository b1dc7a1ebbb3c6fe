"""The core cut into parts that are synthesised one by one, equal ones once."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pliant.spec.config import AcceleratorConfig
from pliant_sim.cache import cache_directory, kept
from pliant_sim.synthesis import flow, rtlil, yosys
from pliant_sim.synthesis.devices import Device
from pliant_sim.synthesis.netlist import Netlist, read_netlist

REPEATED = 4
"""Equal submodules from which they are synthesised once, outside of the module around them."""

JOBS = 2
"""Runs of Yosys side by side."""

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
        Time that Yosys took: the part's share, by the length of its RTLIL, in that of its run.
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
    config: AcceleratorConfig, device: Device, unit: str = "", *, plain_array: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[str, Part]:
    """Synthesise the core, or one unit of it, for `device`; return the unit's path and its part.

    With `plain_array` the core has the array that simulators use, else the one packed into DSPs.
    Netlists are kept in the user's cache by the content of the part.

    Raises
    ------
    UnitError
        There is no such unit.
    YosysError
        Yosys is missing or failed.
    """
    modules = rtlil.modules(
        rtlil.core_rtlil(config, None if plain_array else device.dsp_slice))
    paths = unit_paths(modules)
    path = find_unit(paths, unit) if unit else ""
    boxed = _boxed(modules, paths)
    extracts: dict[str, rtlil.Extract] = {}

    def cut(name: str) -> None:
        if name not in extracts:
            extracts[name] = rtlil.extract(modules, name, boxed - {name})
            for child in extracts[name].boxes.values():
                cut(child)

    cut(paths[path])
    netlists = _netlists([extract.text for extract in extracts.values()], device, progress)
    done: dict[str, Part] = {}

    def part(name: str) -> Part:
        extract = extracts[name]
        if extract.text not in done:
            boxes = {}
            for kind, child in extract.boxes.items():
                ports = extracts[child].ports
                boxes[kind] = Box(part(child), {outside: ports[position] for position, outside
                                                in extract.box_ports[kind].items()})
            done[extract.text] = Part(netlists[extract.text][0], boxes, netlists[extract.text][1])
        return done[extract.text]

    return path, part(paths[path])


def _boxed(modules: Mapping[str, rtlil.Module], paths: Mapping[str, str]) -> frozenset[str]:
    """Return the modules that are synthesised outside of the one around them.

    What is repeated inside a repeated module stays there.
    """
    boxed = {child for path in OPENED for child in modules[paths[path]].children.values()}

    def visit(name: str) -> None:
        children = modules[name].children.values()
        texts = {child: rtlil.extract(modules, child).text for child in children}
        count = Counter(texts.values())
        for child, text in texts.items():
            if count[text] >= REPEATED:
                boxed.add(child)
            else:
                visit(child)

    visit(paths[""])
    return frozenset(boxed)


def _key(text: str, device: Device) -> str:
    settings = (flow.FLOW_VERSIONS[device.family], yosys.find().version, device.family,
                device.uram > 0, text)
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:24]


def _netlists(
    texts: Sequence[str], device: Device, progress: Callable[[str], None]
) -> dict[str, tuple[Netlist, float]]:
    """Return the netlist of each text and Yosys' seconds; those not in the cache are made."""
    directory = cache_directory() / "synthesis"
    paths = {text: directory / f"{_key(text, device)}.json.gz" for text in texts}
    missing = [text for text, path in paths.items() if not path.exists()]
    if missing:
        progress(f"{len(missing)} modules")
        with ThreadPoolExecutor(JOBS) as pool:
            for made in pool.map(lambda batch: _run(batch, device), _batches(missing)):
                for text, content in made.items():
                    kept(paths[text], lambda content=content: content)  # type: ignore[misc]
    result = {}
    for text, path in paths.items():
        seconds, _, netlist = gzip.decompress(path.read_bytes()).decode().partition("\n")
        result[text] = read_netlist(netlist), float(seconds)
    return result


def _batches(texts: Sequence[str]) -> list[list[str]]:
    """Share the texts out to JOBS runs of Yosys, such that these take about as long."""
    batches: list[list[str]] = [[] for _ in range(JOBS)]
    for text in sorted(texts, key=len, reverse=True):
        min(batches, key=lambda batch: sum(map(len, batch))).append(text)
    return [batch for batch in batches if batch]


def _run(texts: Sequence[str], device: Device) -> dict[str, bytes]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        netlists = flow.run(texts, device.family, Path(directory), uram=device.uram > 0)
    each = (time.monotonic() - start) / sum(map(len, texts))
    return {text: gzip.compress(f"{len(text) * each:.2f}\n{netlist}".encode(), 3)
            for text, netlist in zip(texts, netlists, strict=True)}
