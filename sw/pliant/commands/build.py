"""`build`: a configuration as Verilog, or all that a board's bitstream is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pliant.driver.manifest import FILE_NAME, Bitstream, Manifest, read_manifest, sha256
from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import CORE_VLNV, Platform

if TYPE_CHECKING:
    from pliant_hw.memory_ports import MemoryPorts

README = """\
# pliant on {title}

Everything here but this directory's Vivado project comes from `pliant build --board {name}`. With
Vivado ({vivado} is meant) and the board's files installed:

    vivado -mode batch -source build.tcl
    pliant build --board {name} -o {directory} --record

The first writes `{stem}.bit` and `{stem}.hwh` and refuses a design that misses {clock} MHz; the
second adds their checksums to `manifest.json`. Copy these three to the board.

| file | what it is |
| --- | --- |
| `ip/pliant_core` | the core as an IP-XACT component: Verilog, ports, buses, registers |
| `block_design.tcl` | processing system, core, interrupt controller, and what joins them |
| `build.tcl` | project, synthesis, implementation, reports; options are in its head |
| `constraints.xdc` | constraints of the whole design |
| `registers.json`, `registers.md` | the register map |
| `manifest.json` | configuration, fingerprint, checksums; the driver reads it |
"""


class BuildError(ValueError):
    """A build that cannot be recorded; the message says what is missing or stale."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """Verilog that was written: where, for which configuration, and how long it is.

    `array` is the kind of the matrix array: ``"plain"`` or the DSP slice that it instantiates.
    """

    path: Path
    config: str
    array: str
    fingerprint: str
    lines: int


@dataclass(frozen=True, kw_only=True)
class BoardBuild:
    """What was written for a board: the directory, the files in it, the configuration."""

    directory: Path
    board: str
    config: str
    fingerprint: str
    array: str
    files: list[str]


def build(
    config: AcceleratorConfig, path: Path, array: Literal["packed", "plain"] = "packed",
    ports: MemoryPorts | None = None,
) -> BuildResult:
    """Write the core of `config` as one Verilog file; directories are made as needed.

    The packed array, for synthesis, instantiates the DSP slices of the configuration's device; the
    plain one is for simulators. `ports` are several masters to memory, for a board; without, there
    is one as wide as the core's own bus.

    Raises
    ------
    OSError
        The file cannot be written.
    pliant_sim.synthesis.devices.DeviceError
        The configuration has no device whose slices the packed array could instantiate.
    """
    from pliant_hw.array import MatrixArray
    from pliant_hw.dsp import FAMILIES
    from pliant_hw.packed_array import packed
    from pliant_hw.verilog import generate
    from pliant_sim.synthesis.devices import default_device

    kind = "plain" if array == "plain" else default_device(config.name).dsp_slice
    text = generate(
        config, MatrixArray if array == "plain" else packed(FAMILIES[kind], primitive=True), ports)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return BuildResult(path=path, config=config.name, array=kind,
                       fingerprint=f"{config.fingerprint:016x}", lines=text.count("\n"))


def build_board(platform: Platform, directory: Path) -> BoardBuild:
    """Write all that Vivado makes a board's bitstream of, and the manifest, to `directory`.

    Files of the same names are replaced; a bitstream that lies there is no longer recorded.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    from pliant_hw.board import ipxact, project
    from pliant_hw.board.block_design import block_design
    from pliant_hw.board.boards import BOARDS, core_ports
    from pliant_hw.board.register_list import register_json, register_markdown

    directory.mkdir(parents=True, exist_ok=True)  # fails before the minute that the Verilog takes
    config, board = platform.config, BOARDS[platform.name]
    core = directory / project.CORE_DIRECTORY
    ports = core_ports(platform)
    verilog = build(config, core / ipxact.VERILOG, ports=ports)
    texts = {
        f"{project.CORE_DIRECTORY}/component.xml": ipxact.component(
            config, platform.family, ports),
        f"{project.CORE_DIRECTORY}/{ipxact.CLOCK_CONSTRAINT}": ipxact.clock_constraint(config),
        f"{project.CORE_DIRECTORY}/{ipxact.USER_INTERFACE}": ipxact.user_interface(),
        project.BLOCK_DESIGN: block_design(platform),
        project.CONSTRAINTS: project.constraints(),
        "registers.json": register_json(platform, config),
        "registers.md": register_markdown(platform, config),
        "README.md": README.format(
            title=board.title, name=platform.name, vivado=board.vivado, directory=directory,
            stem=project.bitstream_name(platform), clock=config.board.clock_mhz),
    }
    for name, text in texts.items():
        _write(directory / name, text)
    sources = {name: sha256(directory / name) for name in sorted(
        [f"{project.CORE_DIRECTORY}/{ipxact.VERILOG}", *texts]) if name != "README.md"}
    _write(directory / project.BUILD, project.build_script(platform, _digest(sources)))
    sources[project.BUILD] = sha256(directory / project.BUILD)
    Manifest(
        board=platform.name, part=platform.part, core=CORE_VLNV, config=config,
        generator="pliant", generator_version=version("pliant"),
        clock_mhz=config.board.clock_mhz, sources=sources,
    ).save(directory / FILE_NAME)
    return BoardBuild(
        directory=directory, board=platform.name, config=config.name,
        fingerprint=verilog.fingerprint, array=verilog.array,
        files=sorted([*sources, "README.md", FILE_NAME]))


def record(platform: Platform, directory: Path) -> Manifest:
    """Add the bitstream that Vivado made in `directory` to the manifest there; return that.

    Raises
    ------
    BuildError
        The directory is another board's, the bitstream is not made from the sources that the
        manifest lists, or a slack is negative.
    pliant.driver.manifest.ManifestError
        The manifest is damaged.
    OSError
        A file is missing.
    """
    from pliant_hw.board import project

    manifest = read_manifest(directory)
    if manifest.board != platform.name:
        raise BuildError(f"{manifest.path} is of board {manifest.board!r}, not {platform.name!r}")
    changed = manifest.changed_sources()
    if changed:
        raise BuildError(f"{directory}: {', '.join(changed)} changed since pliant build; run it "
                         "and Vivado again")
    result = _result(directory / project.RESULT)
    sources = {name: digest for name, digest in manifest.sources.items() if name != project.BUILD}
    if result["sources"] != _digest(sources):
        raise BuildError(f"{directory / project.RESULT} is of other sources than {FILE_NAME}; run "
                         "Vivado again")
    for name in ("setup_slack_ns", "hold_slack_ns"):
        if not result[name] >= 0:
            raise BuildError(f"{directory / project.RESULT}: {name} is {result[name]}: the design "
                             "misses its clock")
    stem = project.bitstream_name(platform)
    recorded = dataclasses.replace(manifest, bitstream=Bitstream(
        file=f"{stem}.bit", sha256=sha256(directory / f"{stem}.bit"),
        handoff=f"{stem}.hwh", handoff_sha256=sha256(directory / f"{stem}.hwh"),
        tool=result["tool"], tool_version=result["tool_version"],
        setup_slack_ns=result["setup_slack_ns"], hold_slack_ns=result["hold_slack_ns"]))
    recorded.save(manifest.path)
    return recorded


def _result(path: Path) -> dict[str, Any]:
    """Return what the build script wrote."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "tool": str, "tool_version": str, "setup_slack_ns": (int, float),
        "hold_slack_ns": (int, float), "sources": str}
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise BuildError(f"{path}: not JSON: {error}") from None
    for name, kind in kinds.items():
        if not isinstance(data, dict) or not isinstance(data.get(name), kind):
            raise BuildError(f"{path}: field {name!r} is missing or of the wrong kind")
    return dict(data)


def _digest(sources: dict[str, str]) -> str:
    """Return one checksum for many, by name."""
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
