"""The clock that the processing system gives to the core: one PLL and two dividers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pliant.spec.platform import Family

DIVISOR_LIMIT = 63
"""Both dividers have 6 bits."""


@dataclass(frozen=True, kw_only=True)
class Pll:
    """The I/O PLL as boot loaders set it; PYNQ takes the reference clock for granted."""

    reference_mhz: float
    multiplier: int
    halved: bool

    @property
    def mhz(self) -> float:
        """Output frequency."""
        return self.reference_mhz * self.multiplier / (2 if self.halved else 1)


IO_PLL: dict[Family, Pll] = {
    "zynq": Pll(reference_mhz=50.0, multiplier=20, halved=False),
    "zynqmp": Pll(reference_mhz=33.333, multiplier=90, halved=True),
}


@dataclass(frozen=True, kw_only=True)
class FabricClock:
    """Dividers of a clock to the programmable logic, and what comes out."""

    divisor0: int
    divisor1: int
    mhz: float


def fabric_clock(family: Family, mhz: float) -> FabricClock:
    """Return the fastest clock that is not faster than `mhz`; ValueError if it is too slow."""
    pll = IO_PLL[family].mhz
    product = math.ceil(pll / mhz)
    while product <= DIVISOR_LIMIT**2:
        for divisor1 in range(1, DIVISOR_LIMIT + 1):
            if product % divisor1 == 0 and product // divisor1 <= DIVISOR_LIMIT:
                return FabricClock(divisor0=product // divisor1, divisor1=divisor1,
                                   mhz=round(pll / product, 6))
        product += 1
    raise ValueError(f"no divider makes {mhz} MHz from a PLL of {pll} MHz")
