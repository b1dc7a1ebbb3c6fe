"""The parts of the boards, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Device:
    """One part.

    Attributes
    ----------
    name, family : str
        Name of the part; the family's name in Yosys: ``xc7`` or ``xcup``.
    lut, ff, dsp, ramb36, uram : int
        Six-input look-up tables, flip-flops, DSP slices, 36 Kbit block RAMs, 288 Kbit UltraRAMs.
    """

    name: str
    family: str
    lut: int
    ff: int
    dsp: int
    ramb36: int
    uram: int = 0

    @property
    def dsp_slice(self) -> str:
        """Name of the DSP slice."""
        return "DSP48E1" if self.family == "xc7" else "DSP48E2"


DEVICES = {
    device.name: device
    for device in (
        Device(name="xc7z020", family="xc7", lut=53_200, ff=106_400, dsp=220, ramb36=140),
        Device(name="zu3eg", family="xcup", lut=70_560, ff=141_120, dsp=360, ramb36=216),
        Device(name="k26", family="xcup", lut=117_120, ff=234_240, dsp=1248, ramb36=144, uram=64),
        Device(name="zu7ev", family="xcup", lut=230_400, ff=460_800, dsp=1728, ramb36=312, uram=96),
    )
}
"""Parts by name, from Xilinx DS190 (Zynq-7000), DS891 (Zynq UltraScale+) and DS987 (K26)."""

DEFAULT_DEVICES = {"tiny": "xc7z020", "pynq_z2": "xc7z020", "ultra96": "zu3eg", "kv260": "k26"}
"""The part of each preset; ``tiny`` is for tests and borrows the smallest."""


class DeviceError(ValueError):
    """A device that is not known; the message lists those that are."""


def device(name: str) -> Device:
    """Return the device called `name`; DeviceError otherwise."""
    try:
        return DEVICES[name]
    except KeyError:
        raise DeviceError(f"no device is called {name!r}; known: {', '.join(DEVICES)}") from None


def default_device(config: str) -> Device:
    """Return the device that configuration `config` is made for; DeviceError if it names none."""
    if config not in DEFAULT_DEVICES:
        raise DeviceError(f"configuration {config!r} has no device of its own; give one of "
                          f"{', '.join(DEVICES)}")
    return DEVICES[DEFAULT_DEVICES[config]]
