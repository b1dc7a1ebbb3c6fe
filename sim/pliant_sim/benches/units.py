"""The compute units side by side in one design, so that their benches share one compilation.

Most of the time to compile a small design goes into the simulator's own run-time library.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from amaranth import Module
from amaranth.lib import wiring

from pliant.spec.config import PRESETS
from pliant_hw.accumulators import Accumulators
from pliant_hw.array import MatrixArray
from pliant_hw.dsp import FAMILIES
from pliant_hw.feature_buffer import FeatureBuffer
from pliant_hw.packed_array import PackedArray
from pliant_hw.requantizer import Requantizer
from pliant_hw.residual import ResidualAdder
from pliant_hw.verilog import component_to_verilog, flat_ports
from pliant_hw.walker import Walker

TOP = "compute_units"
CONFIG = dataclasses.replace(PRESETS["tiny"], feature_depth=256, accumulator_depth=16)
MULTIPLIER_BITS = (8, 16, 31)
READERS = ("first", "second", "third")
WRITERS = ("first", "second")
WRITE_PORT_READERS = ("fourth", "fifth")
TAG_BITS = 5


class ComputeUnits(wiring.Component):  # type: ignore[type-arg]  # generic in the stubs only
    """Each unit under its name; a port of it is called ``<unit>_<port>``."""

    def __init__(self) -> None:
        super().__init__({})
        self.units: dict[str, wiring.Component[Any]] = {
            "array": MatrixArray(config=CONFIG),
            **{f"array_{name}": PackedArray(config=CONFIG, family=family, primitive=False)
               for name, family in FAMILIES.items()},
            "accumulators": Accumulators(config=CONFIG),
            "walker": Walker(config=CONFIG, tag=TAG_BITS),
            "buffer": FeatureBuffer(config=CONFIG, readers=READERS, writers=WRITERS,
                                    write_port_readers=WRITE_PORT_READERS),
            "adder": ResidualAdder(config=CONFIG),
        }
        for bits in MULTIPLIER_BITS:
            self.units[f"requantizer{bits}"] = Requantizer(
                config=dataclasses.replace(CONFIG, multiplier_bits=bits))

    def elaborate(self, platform: object) -> Module:
        """Put the units side by side, unconnected."""
        m = Module()
        for name, unit in self.units.items():
            m.submodules[name] = unit
        return m

    def ports(self) -> dict[str, Any]:
        """Return all ports by name, for the Verilog back end."""
        return {f"{unit}_{port}": value for unit, component in self.units.items()
                for port, value in flat_ports(component).items()}


@functools.cache
def compute_units() -> ComputeUnits:
    """Return the design."""
    return ComputeUnits()


@functools.cache
def verilog() -> str:
    """Return the design as Verilog, module TOP."""
    top = compute_units()
    return component_to_verilog(top, TOP, top.ports())
