"""Area and depth of a configuration on a device, put together from its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pliant.spec.config import AcceleratorConfig
from pliant_sim.synthesis import yosys
from pliant_sim.synthesis.depth import Path, paths
from pliant_sim.synthesis.devices import Device
from pliant_sim.synthesis.hierarchy import Node, tree
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.parts import OPENED, Part, plain_name, synthesize
from pliant_sim.synthesis.timing_graph import graph

MAX_LEVELS = 7
"""Levels of logic between registers beyond which a unit wants another pipeline stage."""

ARRAY = "matrix.array"


@dataclass(frozen=True, kw_only=True)
class Module:
    """Area of one module, all below it included, and of its memories by name."""

    path: str
    area: Area
    memories: dict[str, Area]


@dataclass(frozen=True, kw_only=True)
class UnitDepth:
    """The longest paths of one unit, in levels; None where there is none.

    Attributes
    ----------
    path : str
        The unit.
    inside : Path or None
        Between registers of the unit.
    ports : Path or None
        From or to a port of the unit: to be seen with what is behind the port.
    hard_blocks : Path or None
        Between registers of the unit, counting the delays of block RAMs and DSPs.
    """

    path: str
    inside: Path | None
    ports: Path | None
    hard_blocks: Path | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `pliant synth` shows.

    Attributes
    ----------
    config, unit, device, yosys, array_kind, dsp_packing : str
    seconds : float
        Time that Yosys took for all the parts, when they were synthesised.
    area, available, left : Area
        Of the unit; of the device; what is left of it.
    modules : list of Module
        The tree, parents before children.
    array : dict of float
        ``macs``, ``lut_per_mac`` and ``mac_per_dsp`` of the matrix array, if the unit contains it.
    depths : list of UnitDepth
        For each unit that is synthesised on its own.
    paths : list of Path
        The longest path into each register of the whole unit, the longest first, those of at least
        MAX_LEVELS levels and no less than one.
    """

    config: str
    unit: str
    device: str
    yosys: str
    array_kind: str
    dsp_packing: str
    seconds: float
    area: Area
    available: Area
    left: Area
    modules: list[Module]
    array: dict[str, float]
    depths: list[UnitDepth]
    paths: list[Path]


def report(
    config: AcceleratorConfig, device: Device, unit: str = "", *, plain_array: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Report:
    """Synthesise the core of `config`, or one unit of it, for `device`; see :func:`synthesize`.

    Raises
    ------
    UnitError
        There is no such unit.
    YosysError
        Yosys is missing or failed.
    LoopError
        The logic feeds back to itself.
    """
    path, part = synthesize(
        config, device, unit, plain_array=plain_array, progress=progress)
    node = tree(part)
    area = node.total
    available = Area(lut=device.lut, ff=device.ff, dsp=device.dsp, ramb36=device.ramb36,
                     uram=device.uram)
    left = Area(lut=available.lut - area.lut, ff=available.ff - area.ff,
                dsp=available.dsp - area.dsp, uram=available.uram - area.uram,
                ramb36=available.ramb36 - area.ramb36 - (area.ramb18 + 1) // 2)
    found = paths(graph(part), ports=False)
    return Report(
        config=config.name, unit=path, device=device.name, yosys=yosys.find().version,
        array_kind="plain array" if plain_array else "packed array",
        dsp_packing=device.dsp_slice + (
            "" if device.family == "xc7" else ", inferred ones by way of the DSP48E1 matcher"),
        seconds=sum(item.seconds for item in {id(p): p for _, p in _parts(part, "")}.values()),
        area=area, available=available, left=left,
        modules=[Module(path=name, area=item.total, memories=item.memories)
                 for name, item in node.walk()],
        array=_array(node, path, config),
        depths=[_depth(name, item) for name, item in _parts(part, "") if _is_unit(path, name)],
        paths=[item for index, item in enumerate(found)
               if item.levels >= MAX_LEVELS or not index],
    )


def _parts(part: Part, path: str) -> Iterator[tuple[str, Part]]:
    """Yield every instance of a part below `part`, and itself, with its path."""
    yield path, part
    for cell in part.netlist.cells:
        if cell.type in part.boxes:
            inner = plain_name(cell.name)
            yield from _parts(part.boxes[cell.type].part, f"{path}.{inner}" if path else inner)


def _is_unit(root: str, path: str) -> bool:
    """Whether the part at `path` below `root` is a unit, rather than a repeated piece of one."""
    whole = ".".join(name for name in (root, path) if name)
    return path == "" or whole.rpartition(".")[0] in OPENED


def _depth(name: str, part: Part) -> UnitDepth:
    """Return the depth of a unit with all that is inside it."""
    plain = graph(part)
    inside = paths(plain, ports=False)
    ports = paths(plain, ports=True)
    hard = paths(graph(part, hard_blocks=True), ports=False)
    return UnitDepth(path=name, inside=inside[0] if inside else None,
                     ports=ports[0] if ports else None, hard_blocks=hard[0] if hard else None)


def _array(node: Node, root: str, config: AcceleratorConfig) -> dict[str, float]:
    for path, item in node.walk():
        if f"{root}.{path}".strip(".").endswith(ARRAY):
            macs = config.rows * config.cols
            area = item.total
            return {"macs": macs, "lut": area.lut, "dsp": area.dsp, "lut_per_mac": area.lut / macs,
                    "mac_per_dsp": macs / area.dsp if area.dsp else 0.0}
    return {}
