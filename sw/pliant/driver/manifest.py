"""What a bitstream was built from: a JSON file that the build writes and the driver reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pliant.driver.faults import DriverError, HardwareMismatchError
from pliant.spec.config import ISA_VERSION, PRESETS, AcceleratorConfig, Board, ConfigError
from pliant.spec.registers import REGISTERS

FORMAT = "pliant-bitstream"


class ManifestError(DriverError):
    """A manifest that cannot be read, or that belongs to another bitstream."""


@dataclass(frozen=True, kw_only=True)
class BitstreamManifest:
    """One bitstream.

    Attributes
    ----------
    board : str
        Name of the platform, see :mod:`pliant.spec.platform`.
    config : AcceleratorConfig
        What the core is built from.
    clock_mhz : float
        Clock of the core in this design.
    tool : str
        What made it, with its version.
    bitstream_sha256 : str or None
        Of the .bit file; None when none was made yet.
    isa_version : int
        Version of the instruction set and the register map.
    """

    board: str
    config: AcceleratorConfig
    clock_mhz: float
    tool: str
    bitstream_sha256: str | None = None
    isa_version: int = ISA_VERSION

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest."""
        values = {"format": FORMAT, **dataclasses.asdict(self),
                  "fingerprint": f"{self.config.fingerprint:016x}"}
        Path(path).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def require_bitstream(self, path: str | os.PathLike[str]) -> None:
        """Raise ManifestError unless the file is the bitstream that the manifest describes."""
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if digest != self.bitstream_sha256:
            raise ManifestError(f"{path}: SHA-256 is {digest}, that in the manifest "
                                f"{self.bitstream_sha256}: they are not of one build")


def load_manifest(path: str | os.PathLike[str]) -> BitstreamManifest:
    """Read a manifest.

    Raises
    ------
    ManifestError
        Names the file and what is wrong with it.
    FileNotFoundError
        There is no such file.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ManifestError(f"{path}: format is {values['format']!r}, not {FORMAT!r}")
        if values["isa_version"] != ISA_VERSION:
            raise ManifestError(
                f"{path}: built for instruction set version {values['isa_version']}, this is "
                f"version {ISA_VERSION}; build the bitstream again")
        hardware = dict(values["config"])
        board = Board(**hardware.pop("board"))
        config = AcceleratorConfig(board=board, **hardware)
        digest = values["bitstream_sha256"]
        manifest = BitstreamManifest(
            board=str(values["board"]), config=config, clock_mhz=float(values["clock_mhz"]),
            tool=str(values["tool"]), bitstream_sha256=None if digest is None else str(digest))
        if int(values["fingerprint"], 16) != config.fingerprint:
            raise ManifestError(f"{path}: fingerprint {values['fingerprint']} is not that of its "
                                f"configuration, {config.fingerprint:016x}")
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise ManifestError(f"{path}: not a bitstream manifest, or a damaged one ({error!r})") \
            from None
    return manifest


def identify_configuration(
    read: Callable[[int], int], manifest: BitstreamManifest | None = None
) -> AcceleratorConfig:
    """Return the configuration of a core by its fingerprint: of the manifest, or a preset.

    Parameters
    ----------
    read : callable
        Returns the 32-bit register at a byte offset.
    manifest : BitstreamManifest or None
        If given, the core must have its configuration.

    Raises
    ------
    HardwareMismatchError
        The core is not that of the manifest; or, without one, no preset.
    """
    address = REGISTERS["fingerprint"].address
    found = read(address) | read(address + 4) << 32
    if manifest is not None:
        if found != manifest.config.fingerprint:
            raise HardwareMismatchError(
                f"the core's fingerprint is {found:016x}, the manifest describes "
                f"{manifest.config.name!r} ({manifest.config.fingerprint:016x}); load the "
                "bitstream that the manifest belongs to")
        return manifest.config
    for config in PRESETS.values():
        if config.fingerprint == found:
            return config
    raise HardwareMismatchError(
        f"the core's fingerprint is {found:016x}, which is no preset's ({', '.join(PRESETS)}); "
        "give the configuration it was built for, or the manifest of its bitstream")
