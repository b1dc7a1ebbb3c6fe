"""The manifest beside a bitstream: which configuration it holds, and what it was made with.

``pliant build --board B`` writes it without the part `bitstream`, and ``pliant build --board B
--record`` adds that part after the vendor's tool has run. A driver reads it to know the
configuration, and refuses what does not belong together before anything is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pliant.spec.config import ISA_VERSION, AcceleratorConfig, Board, ConfigError
from pliant.spec.program import Program, ProgramError

FORMAT = "pliant-manifest-1"
"""Value of the field `format`; another one is refused."""

FILE_NAME = "manifest.json"
"""Name of the file, beside the bitstream."""


class ManifestError(ValueError):
    """A manifest that is damaged or does not fit; the message names the file and the field."""


@dataclass(frozen=True, kw_only=True)
class Bitstream:
    """A bitstream and how it came about.

    Attributes
    ----------
    file, sha256 : str
        Name of the bitstream, in the manifest's directory, and its SHA-256 in hexadecimal digits.
    handoff, handoff_sha256 : str
        The same of the hardware hand-off file (.hwh), which PYNQ reads.
    tool, tool_version : str
        What made it.
    setup_slack_ns, hold_slack_ns : float
        Worst slacks after routing, as the tool reports them; not negative.
    """

    file: str
    sha256: str
    handoff: str
    handoff_sha256: str
    tool: str
    tool_version: str
    setup_slack_ns: float
    hold_slack_ns: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of a build.

    Attributes
    ----------
    board, part : str
        Board and device that the design is made for.
    core : str
        Vendor, library, name and version of the core in the design.
    config : AcceleratorConfig
        Every field of it; its fingerprint is recorded too and must agree.
    isa_version : int
        Version of the instruction set and the register map.
    generator, generator_version : str
        What wrote the sources.
    clock_mhz : float
        Clock that the core is constrained to.
    sources : mapping of str to str
        SHA-256 of each source, by its path in the manifest's directory.
    bitstream : Bitstream or None
        None until a bitstream is recorded.
    path : Path
        Where it was read; for messages.
    """

    board: str
    part: str
    core: str
    config: AcceleratorConfig
    isa_version: int = ISA_VERSION
    generator: str
    generator_version: str
    clock_mhz: float
    sources: Mapping[str, str]
    bitstream: Bitstream | None = None
    path: Path = field(default=Path(FILE_NAME), compare=False)

    def check(self, config: AcceleratorConfig, program: Program | None = None) -> None:
        """Raise ManifestError unless the hardware is `config` and runs `program`.

        Names of configurations do not matter, fingerprints do.
        """
        if self.isa_version != ISA_VERSION:
            raise self._error("isa_version", f"{self.isa_version}, but this software is for "
                              f"{ISA_VERSION}: build the bitstream again")
        if config.fingerprint != self.config.fingerprint:
            raise self._error("fingerprint", f"{self.config.fingerprint:016x} "
                              f"({self.config.name!r}), but {config.name!r} has "
                              f"{config.fingerprint:016x}: {_difference(self.config, config)}")
        if program is not None:
            try:
                program.require(self.config)
            except ProgramError as error:
                raise self._error("fingerprint", f"{self.config.fingerprint:016x}, but "
                                  f"{error}") from None

    def check_bitstream(self) -> Path:
        """Return the path of the bitstream; ManifestError unless it and its .hwh are as recorded.

        Raises
        ------
        ManifestError
            No bitstream is recorded, or a file has another checksum.
        OSError
            A file cannot be read.
        """
        if self.bitstream is None:
            raise self._error("bitstream", "null: none has been recorded; "
                              f"see pliant build --board {self.board} --record")
        recorded = self.bitstream
        for name, file, digest in (
            ("sha256", recorded.file, recorded.sha256),
            ("handoff_sha256", recorded.handoff, recorded.handoff_sha256),
        ):
            found = sha256(self.path.parent / file)
            if found != digest:
                raise self._error(f"bitstream.{name}", f"{digest}, but {file} has {found}")
        return self.path.parent / recorded.file

    def changed_sources(self) -> list[str]:
        """Return the sources that are missing or have another checksum than is recorded."""
        directory = self.path.parent
        return [name for name, digest in self.sources.items()
                if not (directory / name).is_file() or sha256(directory / name) != digest]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON."""
        Path(path).write_text(json.dumps(self.document(), indent=2) + "\n")

    def document(self) -> dict[str, Any]:
        """Return the manifest as JSON has it."""
        return {
            "format": FORMAT,
            "board": self.board,
            "part": self.part,
            "core": self.core,
            "config": dataclasses.asdict(self.config),
            "fingerprint": f"{self.config.fingerprint:016x}",
            "isa_version": self.isa_version,
            "generator": self.generator,
            "generator_version": self.generator_version,
            "clock_mhz": self.clock_mhz,
            "sources": dict(self.sources),
            "bitstream": None if self.bitstream is None else dataclasses.asdict(self.bitstream),
        }

    def _error(self, name: str, message: str) -> ManifestError:
        return ManifestError(f"{self.path}: field {name!r} is {message}")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Return the manifest in file `path`, or in directory `path`.

    Raises
    ------
    ManifestError
        It is no manifest, a field is missing, unknown or of the wrong kind, or the configuration
        does not have the recorded fingerprint.
    OSError
        The file cannot be read.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    try:
        data = json.loads(file.read_text())
    except ValueError as error:
        raise ManifestError(f"{file}: not JSON: {error}") from None
    return _Reader(file).manifest(data)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _difference(first: AcceleratorConfig, second: AcceleratorConfig) -> str:
    """Return what two configurations differ in."""
    names = [item.name for item in dataclasses.fields(AcceleratorConfig)
             if item.name not in ("name", "board")]
    return ", ".join(f"{name} is {getattr(first, name)}, not {getattr(second, name)}"
                     for name in names if getattr(first, name) != getattr(second, name))


class _Reader:
    """Takes a document apart; every error names the file and the field."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def manifest(self, data: Any) -> Manifest:
        values = self._record(data, "", {
            "format": str, "board": str, "part": str, "core": str, "config": dict,
            "fingerprint": str, "isa_version": int, "generator": str, "generator_version": str,
            "clock_mhz": float, "sources": dict, "bitstream": (dict, type(None)),
        })
        if values["format"] != FORMAT:
            raise self._error("format", f"{values['format']!r}, not {FORMAT!r}")
        config = self._config(values["config"])
        # Fingerprints include the version: those of another one cannot be recomputed here.
        expected = f"{config.fingerprint:016x}"
        if values["isa_version"] == ISA_VERSION and values["fingerprint"] != expected:
            raise self._error("fingerprint", f"{values['fingerprint']!r}, but the configuration "
                                             f"beside it has {expected!r}")
        bitstream = values["bitstream"]
        if bitstream is not None:
            kinds = {item.name: float if item.type == "float" else str
                     for item in dataclasses.fields(Bitstream)}
            bitstream = Bitstream(**self._record(bitstream, "bitstream.", kinds))
        sources = self._record(values["sources"], "sources.", dict.fromkeys(values["sources"], str))
        kept = {name: values[name] for name in ("board", "part", "core", "isa_version", "generator",
                                                "generator_version", "clock_mhz")}
        return Manifest(**kept, config=config, sources=sources, bitstream=bitstream,
                        path=self._path)

    def _config(self, data: Any) -> AcceleratorConfig:
        fields = {item.name: item.type for item in dataclasses.fields(AcceleratorConfig)}
        kinds = {"int": int, "str": str, "Board": dict}
        values = self._record(data, "config.",
                              {name: kinds[str(kind)] for name, kind in fields.items()})
        names = [item.name for item in dataclasses.fields(Board)]
        board = self._record(values.pop("board"), "config.board.", dict.fromkeys(names, int))
        try:
            return AcceleratorConfig(**values, board=Board(**board))
        except ConfigError as error:
            raise self._error("config", f"not a configuration: {error}") from None

    def _record(
        self, data: Any, prefix: str, kinds: Mapping[str, type | tuple[type, ...]]
    ) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise self._error(prefix.rstrip(".") or "(whole)", f"{data!r}, not an object")
        self._names(prefix, "missing", kinds.keys() - data.keys())
        self._names(prefix, "unknown", data.keys() - kinds.keys())
        for name, kind in kinds.items():
            allowed = (int, float) if kind is float else kind
            if not isinstance(data[name], allowed) or isinstance(data[name], bool):
                raise self._error(f"{prefix}{name}", f"{data[name]!r}, which is of the wrong kind")
        return dict(data)

    def _names(self, prefix: str, what: str, names: Iterable[str]) -> None:
        for name in sorted(names):
            raise self._error(f"{prefix}{name}", what)

    def _error(self, name: str, message: str) -> ManifestError:
        return ManifestError(f"{self._path}: field {name!r} is {message}")
