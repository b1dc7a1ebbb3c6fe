"""Registers of the processing system that PYNQ touches when it loads an overlay.

Addresses and fields: Zynq-7000 TRM (UG585), Zynq UltraScale+ register reference (UG1087).
"""

from __future__ import annotations

from pliant.spec.platform import Family
from pliant_sim.board.clocks import IO_PLL
from pliant_sim.board.errors import BusError

_SLCR = 0xF800_0000
_CRL_APB = 0xFF5E_0000
_CRF_APB = 0xFD1A_0000
_BLOCKS: dict[Family, dict[str, tuple[int, int]]] = {
    "zynq": {"SLCR": (_SLCR, 0x1000)},
    "zynqmp": {
        "CRL_APB": (_CRL_APB, 0x1000),
        "CRF_APB": (_CRF_APB, 0x1000),
        "FPD_SLCR AXI_FS": (0xFD61_5000, 4),
        "LPD_SLCR AFI_FS": (0xFF41_9000, 4),
        **{f"AFIFM{index}": (0xFD36_0000 + 0x1_0000 * index, 0x18) for index in range(6)},
        "AFIFM6": (0xFF9B_0000, 0x18),
    },
}


def _initial(family: Family) -> dict[int, int]:
    pll = IO_PLL[family]
    if family == "zynq":
        control = pll.multiplier << 12
        # Arm, DDR and I/O PLL are set alike; the four fabric clocks divide it by 20.
        return {
            **{_SLCR + offset: control for offset in (0x100, 0x104, 0x108)},
            _SLCR + 0x120: 2 << 8,
            **{_SLCR + offset: 1 << 20 | 20 << 8 for offset in (0x170, 0x180, 0x190, 0x1A0)},
        }
    control = int(pll.halved) << 16 | pll.multiplier << 8
    return {
        **{_CRL_APB + offset: control for offset in (0x20, 0x30)},
        **{_CRF_APB + offset: control for offset in (0x20, 0x2C, 0x38)},
        _CRF_APB + 0x60: 1 << 8,
        **{_CRL_APB + offset: 1 << 16 | 15 << 8 for offset in (0xC0, 0xC4, 0xC8, 0xCC)},
    }


class ProcessingSystem:
    """Registers that hold what is written to them and do nothing.

    Parameters
    ----------
    family : "zynq" or "zynqmp"
    """

    def __init__(self, family: Family) -> None:
        self._blocks = _BLOCKS[family]
        self._words = _initial(family)

    def read(self, address: int) -> int:
        """Return the 32-bit register at an absolute address; BusError if it is not modelled."""
        self._require(address)
        return self._words.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Write the 32-bit register at an absolute address; BusError if it is not modelled."""
        self._require(address)
        self._words[address] = value

    def _require(self, address: int) -> None:
        if not any(base <= address < base + size for base, size in self._blocks.values()):
            raise BusError(f"nothing answers at address {address:#x}; modelled of the processing "
                           f"system are {', '.join(self._blocks)}")
