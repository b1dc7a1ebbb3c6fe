"""`build`: a configuration as Verilog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pliant.spec.config import AcceleratorConfig


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


def build(
    config: AcceleratorConfig, path: Path, array: Literal["packed", "plain"] = "packed"
) -> BuildResult:
    """Write the core of `config` as one Verilog file; directories are made as needed.

    The packed array, for synthesis, instantiates the DSP slices of the configuration's device; the
    plain one is for simulators.

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
        config, MatrixArray if array == "plain" else packed(FAMILIES[kind], primitive=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return BuildResult(path=path, config=config.name, array=kind,
                       fingerprint=f"{config.fingerprint:016x}", lines=text.count("\n"))
