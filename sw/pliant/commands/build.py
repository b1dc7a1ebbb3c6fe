"""`build`: a configuration as Verilog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pliant.spec.config import AcceleratorConfig


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """Verilog that was written: where, for which configuration, and how long it is."""

    path: Path
    config: str
    fingerprint: str
    lines: int


def build(config: AcceleratorConfig, path: Path) -> BuildResult:
    """Write the core of `config` as one Verilog file; directories are made as needed.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    from pliant_hw.verilog import generate

    text = generate(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return BuildResult(path=path, config=config.name, fingerprint=f"{config.fingerprint:016x}",
                       lines=text.count("\n"))
