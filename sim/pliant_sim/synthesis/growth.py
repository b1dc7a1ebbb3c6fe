"""How the area follows the fields of a configuration: variants of it, held against one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pliant.spec.config import AcceleratorConfig, Board
from pliant_sim.synthesis.devices import Device
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.parts import OPENED
from pliant_sim.synthesis.report import Report, report

_NUMBERED = re.compile(r"^(.*?)_?\d+$")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration, and what it takes.

    Attributes
    ----------
    name : str
    macs : int
        Multiply-accumulates per cycle of its array.
    area, change : Area
        Of the whole that is synthesised; against the reference of the sweep.
    lut_per_mac, mac_per_dsp : float
        Of that whole; 0 if it has no DSPs.
    array : dict of float
        ``lut_per_mac`` and ``mac_per_dsp`` of the matrix array alone, as in a report.
    levels : int
        Of the longest path between registers.
    units : dict of Area
        What each unit takes (:func:`unit_areas`): together the whole.
    steps : dict of Area
        Change of each unit against the variant before; empty for the first.
    """

    name: str
    macs: int
    area: Area
    change: Area
    lut_per_mac: float
    mac_per_dsp: float
    array: dict[str, float]
    levels: int
    units: dict[str, Area]
    steps: dict[str, Area]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One field over several values, all else being equal but for what a value brings along.

    Attributes
    ----------
    field : str
    values : list of str
        As they were asked for.
    reference : int
        The value that changes are held against: that of the configuration itself, else the first.
    variants : list of Variant
    """

    field: str
    values: list[str]
    reference: int
    variants: list[Variant]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What ``pliant synth --grow`` shows.

    Attributes
    ----------
    config, unit, device, yosys, array_kind, dsp_packing : str
        As in a report.
    available : Area
        Of the device.
    sweeps : list of Sweep
    """

    config: str
    unit: str
    device: str
    yosys: str
    array_kind: str
    dsp_packing: str
    available: Area
    sweeps: list[Sweep]


def grow(
    config: AcceleratorConfig, fields: Mapping[str, Mapping[str, AcceleratorConfig]],
    device: Device, unit: str = "", *, plain_array: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Growth:
    """Synthesise variants of `config`, or one unit of each, and compare them.

    Netlists come from the cache as for a report, so that a variant costs the units that it changes;
    one that several fields share is reported once.

    Parameters
    ----------
    config : AcceleratorConfig
        What the variants are held against where it is one of them.
    fields : Mapping
        For each field that is varied, at least one, its values as they are to be shown, with their
        variants.
    device, unit, plain_array, progress
        As of :func:`~pliant_sim.synthesis.report.report`.

    Raises
    ------
    UnitError
        A variant has no such unit.
    YosysError
        Yosys is missing or failed.
    LoopError
        The logic feeds back to itself.
    """
    reports: dict[tuple[int, Board], Report] = {}
    sweeps = []
    for field, variants in fields.items():
        for value, variant in variants.items():
            def told(name: str, label: str = f"{field}={value}") -> None:
                progress(f"{label}: {name}")

            key = _hardware(variant)
            if key not in reports:
                reports[key] = report(config if key == _hardware(config) else variant, device, unit,
                                      plain_array=plain_array, progress=told)
        results = [reports[_hardware(variant)] for variant in variants.values()]
        sweeps.append(_sweep(config, field, variants, results))
    result = next(iter(reports.values()))
    return Growth(
        config=config.name, unit=result.unit, device=result.device, yosys=result.yosys,
        array_kind=result.array_kind, dsp_packing=result.dsp_packing, available=result.available,
        sweeps=sweeps)


def _hardware(config: AcceleratorConfig) -> tuple[int, Board]:
    """Return what tells a configuration from others, whatever their names."""
    return config.fingerprint, config.board


def _sweep(
    config: AcceleratorConfig, field: str, variants: Mapping[str, AcceleratorConfig],
    results: Sequence[Report],
) -> Sweep:
    same = [index for index, variant in enumerate(variants.values())
            if _hardware(variant) == _hardware(config)]
    reference = same[0] if same else 0
    made: list[Variant] = []
    for variant, result in zip(variants.values(), results, strict=True):
        area, units = result.area, unit_areas(result)
        macs = variant.peak_macs_per_cycle
        before = made[-1].units if made else units
        steps = {name: units.get(name, Area()) - before.get(name, Area())
                 for name in dict.fromkeys((*before, *units))}
        made.append(Variant(
            name=variant.name, macs=macs, area=area, change=area - results[reference].area,
            lut_per_mac=area.lut / macs, mac_per_dsp=macs / area.dsp if area.dsp else 0.0,
            array={name: result.array[name] for name in ("lut_per_mac", "mac_per_dsp")
                   if name in result.array},
            levels=result.paths[0].levels if result.paths else 0,
            units=units, steps=steps if made else {}))
    return Sweep(field=field, values=list(variants), reference=reference, variants=made)


def unit_areas(result: Report) -> dict[str, Area]:
    """Return the area of each unit of a report: these are disjoint and make up the whole.

    Units are what :data:`~pliant_sim.synthesis.parts.OPENED` modules join, or the submodules of the
    one unit that the report is of, those that are numbered together. What such a module has
    besides them is ``(itself)`` under its path.
    """
    areas = {module.path: module.area for module in result.modules}
    opened = {path for path in areas if _absolute(result, path) in OPENED} | {""}
    units: dict[str, Area] = {}
    for path in opened:
        own = areas[path]
        for child, area in areas.items():
            if child and child.rpartition(".")[0] == path:
                own -= area
                if child not in opened:
                    match = _NUMBERED.match(child)
                    name = f"{match[1]}_*" if match else child
                    units[name] = units.get(name, Area()) + area
        units[f"{path} (itself)".strip()] = own
    return {name: units[name] for name in sorted(units) if units[name] != Area()}


def _absolute(result: Report, path: str) -> str:
    return ".".join(name for name in (result.unit, path) if name)
