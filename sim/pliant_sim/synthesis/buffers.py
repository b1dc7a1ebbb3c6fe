"""Where the core's buffers landed: all of them belong in block RAM or UltraRAM."""

from __future__ import annotations

from pliant.spec.config import ACCUMULATOR_BANKS, FEATURE_BANKS, AcceleratorConfig
from pliant_hw.products import PATCH_TAPS
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.report import Report

RAMB36_BITS = 36 * 1024
URAM_BITS = 288 * 1024
QUEUE = "storage"
"""Name of the memory of a queue (:mod:`amaranth.lib.fifo`), which is LUTs on purpose."""


def buffer_bits(config: AcceleratorConfig) -> dict[str, int]:
    """Return the size of each buffer in bits by the path of the module that holds it."""
    lanes, cols = 8 * config.lanes, config.cols
    return {
        "engine.features": FEATURE_BANKS * config.feature_depth * lanes,
        "engine.weights": config.weight_depth * 8 * cols,
        "engine.accumulators": ACCUMULATOR_BANKS * config.accumulator_depth * 32 * cols,
        "engine.post.source": config.tap_depth * PATCH_TAPS * lanes,
        "engine.post.parameters": config.parameter_depth * 8 * config.parameter_bytes,
    }


def misplaced(config: AcceleratorConfig, report: Report) -> dict[str, str]:
    """Return the buffers in `report` of which a part is in LUTs or flip-flops, and what was found.

    Small buffers belong there, so this says nothing about configurations like ``tiny``.
    """
    sizes = buffer_bits(config)
    found: dict[str, Area] = {}
    for module in report.modules:
        path = ".".join(name for name in (report.unit, module.path) if name)
        for buffer in sizes:
            if path == buffer or path.startswith(f"{buffer}."):
                kept = [area for name, area in module.memories.items() if name != QUEUE]
                found[buffer] = sum(kept, found.get(buffer, Area()))
    return {
        buffer: f"{sizes[buffer]} bits: {area.lut_memory} LUTs, {area.block_rams:g} RAMB36, "
                f"{area.uram} URAM"
        for buffer, area in found.items()
        if area.lut_memory
        or area.block_rams * RAMB36_BITS + area.uram * URAM_BITS < sizes[buffer]
    }
