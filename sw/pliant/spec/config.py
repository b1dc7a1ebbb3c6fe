"""The parameters of one accelerator, checked and derived in one place, and the named presets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

ISA_VERSION = 4
"""Version of the instruction set and the register map; part of every fingerprint."""

FEATURE_BANKS = 4
"""Banks of the feature buffer: one for each parity (y & 1, x & 1) of a pixel."""

DISPLACED_TAPS = 16
"""Taps of which the post unit holds rows and columns for a pixel."""

ACCUMULATOR_BANKS = 2
"""The matrix unit fills one bank while the post-processor empties the other."""

ACCUMULATE_DISTANCE = 3
"""Cycles between reading a partial sum and being able to read its new value. A pass lasts at least
``rows`` cycles, which covers it but for short passes that bank conflicts stretch; there the matrix
unit waits."""


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the field, its value and the rule."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """What surrounds the core. Not part of the fingerprint: programs do not depend on it.

    Attributes
    ----------
    clock_mhz : int
        Clock that the preset aims at; times in seconds derived from it are estimates.
    ddr_bytes_per_cycle : int
        Bandwidth of the memory model, reads and writes together, in bytes per core cycle.
    ddr_latency_cycles : int
        Cycles from the acceptance of a read address to its first data beat in the memory model.
    dsp_slices : int
        DSP slices that the core may take. It works with fewer than it has products for: depthwise
        products are formed in look-up tables where too few are left.
    """

    clock_mhz: int = 100
    ddr_bytes_per_cycle: int = 16
    ddr_latency_cycles: int = 80
    dsp_slices: int = 180


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Everything that shapes the hardware. Two equal fingerprints run the same programs.

    Attributes
    ----------
    name : str
        Name of the preset or of the user's own configuration (not part of the fingerprint).
    rows : int
        Input channels that enter the matrix array each cycle; also the lanes (bytes) of a feature
        word. A power of two from 4 to 64.
    cols : int
        Output channels that the matrix array computes side by side: ``rows``, twice or four times.
    axi_data_bytes : int
        Width of the AXI4 data bus in bytes: one or two feature words, at most ``cols``.
    axi_address_bits : int
        Width of AXI4 addresses.
    axi_burst_beats : int
        Longest burst in beats; a burst never crosses a 4 KiB boundary either.
    axi_outstanding : int
        Bursts that each DMA engine may have in flight.
    feature_depth : int
        Words (``rows`` bytes) in each of the four parity banks of the feature buffer.
    weight_depth : int
        Words (``cols`` bytes) of the weight buffer.
    tap_depth : int
        Words (four taps of ``rows`` lanes) of the buffer of depthwise weights.
    parameter_depth : int
        Per-channel records (bias, multiplier, shift) of the parameter buffer.
    accumulator_depth : int
        Output pixels in each of the two accumulator banks.
    offset_depth : int
        Words (``rows`` bytes) of the matrix unit's memory for a tile's sampling offsets; 0 builds
        no deformable convolution, in the post unit neither.
    multiplier_bits : int
        Width of the unsigned requantization multiplier: 8, 16 or 31.
    queue_depth : int
        Instructions that wait in front of each unit.
    board : Board
        Clock and memory of the board the preset is made for.
    """

    name: str
    rows: int
    cols: int
    axi_data_bytes: int
    axi_address_bits: int = 40
    axi_burst_beats: int = 16
    axi_outstanding: int = 16
    feature_depth: int
    weight_depth: int
    tap_depth: int
    parameter_depth: int
    accumulator_depth: int
    offset_depth: int = 0
    multiplier_bits: int = 16
    queue_depth: int = 8
    board: Board = Board()

    def __post_init__(self) -> None:
        self._require_power_of_two("rows", 4, 64)
        self._require("cols", self.cols in (self.rows, 2 * self.rows, 4 * self.rows),
                      f"must be rows ({self.rows}), twice or four times that")
        self._require_power_of_two("axi_data_bytes", 4, 128)
        self._require(
            "axi_data_bytes",
            self.axi_data_bytes in (self.rows, 2 * self.rows) and self.axi_data_bytes <= self.cols,
            f"must be rows ({self.rows}) or twice that, and at most cols ({self.cols})",
        )
        self._require("axi_address_bits", 32 <= self.axi_address_bits <= 64, "must be 32 to 64")
        self._require_power_of_two("axi_burst_beats", 2, 256)
        self._require("axi_burst_beats", self.axi_burst_beats * self.axi_data_bytes <= 4096,
                      "times axi_data_bytes must not pass 4096 (AXI4, A3.4.1)")
        self._require_power_of_two("axi_outstanding", 1, 64)
        self._require_power_of_two("feature_depth", 16, 1 << 16)
        self._require_power_of_two("weight_depth", 2 * self.rows, 1 << 16)
        self._require_power_of_two("tap_depth", 16, 1 << 16)
        self._require_power_of_two("parameter_depth", 2 * self.cols, 1 << 12)
        self._require_power_of_two("accumulator_depth", 16, 1 << 12)
        if self.offset_depth != 0:
            self._require_power_of_two("offset_depth", 16, 1 << 16)
        self._require("multiplier_bits", self.multiplier_bits in (8, 16, 31),
                      "must be 8, 16 or 31")
        self._require_power_of_two("queue_depth", 2, 64)
        assert self.rows >= ACCUMULATE_DISTANCE

    def _require(self, field: str, condition: bool, rule: str) -> None:
        if not condition:
            raise ConfigError(
                f"configuration {self.name!r}: {field} = {getattr(self, field)!r}: {rule}"
            )

    def _require_power_of_two(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        valid = isinstance(value, int) and low <= value <= high and not value & (value - 1)
        self._require(field, valid, f"must be a power of two from {low} to {high}")

    @property
    def lanes(self) -> int:
        """Bytes (channels of one pixel) in a feature word; equal to ``rows``."""
        return self.rows

    @property
    def words_per_beat(self) -> int:
        """Feature words in one AXI beat: 1, or 2 horizontally adjacent pixels."""
        return self.axi_data_bytes // self.lanes

    @property
    def groups_per_tile(self) -> int:
        """Lane groups of output channels in one accumulator tile: ``cols / lanes``."""
        return self.cols // self.lanes

    @property
    def parameter_bytes(self) -> int:
        """Bytes of one per-channel record, see :mod:`pliant.spec.memory`."""
        return 8 if self.multiplier_bits <= 16 else 16

    @property
    def parameters_per_beat(self) -> int:
        """Per-channel records in an AXI beat, 1 if a record takes several."""
        return max(1, self.axi_data_bytes // self.parameter_bytes)

    @property
    def mask_depth(self) -> int:
        """Words of the memory for a tile's sampling masks: a tap has one, but two offsets."""
        return self.offset_depth // 2

    @property
    def displaced_groups(self) -> int:
        """Lane groups of offsets that the post unit holds for a pixel; 0 if it displaces no taps.

        Their lanes hold the rows and columns of as many taps as a kernel of 4x4 has.
        """
        return max(1, 2 * DISPLACED_TAPS // self.lanes) if self.offset_depth else 0

    @property
    def feature_bytes(self) -> int:
        """Capacity of the feature buffer in bytes."""
        return FEATURE_BANKS * self.feature_depth * self.lanes

    @property
    def weight_bytes(self) -> int:
        """Capacity of the weight buffer in bytes."""
        return self.weight_depth * self.cols

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle of the full array."""
        return self.rows * self.cols

    @property
    def fingerprint(self) -> int:
        """64-bit hash of all that a program depends on, and of the version of the contract."""
        hardware = dataclasses.asdict(self)
        del hardware["name"], hardware["board"]
        text = json.dumps({"isa": ISA_VERSION, **hardware}, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


PRESETS: dict[str, AcceleratorConfig] = {
    config.name: config
    for config in (
        AcceleratorConfig(
            name="tiny", rows=4, cols=8, axi_data_bytes=8, axi_burst_beats=16, axi_outstanding=4,
            feature_depth=512, weight_depth=1024, tap_depth=64, parameter_depth=64,
            accumulator_depth=64, offset_depth=512,
            multiplier_bits=31, queue_depth=4,
        ),
        AcceleratorConfig(
            name="pynq_z2", rows=16, cols=16, axi_data_bytes=16,
            feature_depth=4096, weight_depth=8192, tap_depth=512, parameter_depth=1024,
            accumulator_depth=512,
            board=Board(clock_mhz=125, ddr_bytes_per_cycle=12, dsp_slices=180),
        ),
        AcceleratorConfig(
            name="ultra96", rows=16, cols=32, axi_data_bytes=32,
            feature_depth=8192, weight_depth=4096, tap_depth=512, parameter_depth=1024,
            accumulator_depth=512, offset_depth=1024,
            board=Board(clock_mhz=250, ddr_bytes_per_cycle=24, dsp_slices=320),
        ),
        AcceleratorConfig(
            name="kv260", rows=32, cols=64, axi_data_bytes=64,
            feature_depth=8192, weight_depth=8192, tap_depth=512, parameter_depth=1024,
            accumulator_depth=512, offset_depth=1024,
            board=Board(clock_mhz=250, ddr_bytes_per_cycle=56, dsp_slices=1180),
        ),
    )
}
"""Named configurations. ``tiny`` is for tests: small buffers, so that tiling is exercised.

``pynq_z2`` has no deformable convolution: the sampler's interpolation would take a fifth of its
look-up tables. ``dataclasses.replace(config, offset_depth=1024)`` adds it.
"""


def preset(name: str) -> AcceleratorConfig:
    """Return the preset called `name`; raise ConfigError with the known names otherwise."""
    try:
        return PRESETS[name]
    except KeyError:
        known = ", ".join(PRESETS)
        raise ConfigError(f"no configuration is called {name!r}; known: {known}") from None
