"""The instruction set: every instruction is a class whose attributes are its bit fields.

Encoder, decoder (:mod:`pliant.spec.decoding`), disassembler, validation, the hardware's decoder
and the documentation table all read these classes. An instruction is 64 bytes, little-endian:
opcode (4 bits), wait (4), signal (4), then the fields in the order they are written here; the rest
is zero.

Four units execute instructions, each in program order, and run ahead of one another. An
instruction with bit u of `wait` set consumes one token that unit u has sent to its own unit before
it starts; with bit u of `signal` set it sends one token to unit u when all its effects are visible.
Tokens between each ordered pair of units are counted (up to 255).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.numerics import Rounding
from pliant.spec.rules import AtMost, Multiple, Odd, Ordered, Rule, Under, When
from pliant.spec.sampling import FRACTION_BITS, MAX_SCALED_KERNEL, Offsets, Sampling

INSTRUCTION_BYTES = 64
OPCODE_BITS = 4
TOKEN_BITS = 4
HEADER_BITS = OPCODE_BITS + 2 * TOKEN_BITS
MAX_TOKENS = 255
"""Tokens that may be pending between one pair of units; one more is a fault."""


class InstructionError(ValueError):
    """A field value that cannot be encoded, or bytes that are no instruction."""


class Unit(enum.IntEnum):
    """Units with an instruction queue; the numbers are bit positions in `wait` and `signal`."""

    LOAD = 0
    MATRIX = 1
    POST = 2
    STORE = 3


class Target(enum.IntEnum):
    """Destination of a Load."""

    FEATURE = 0
    WEIGHT = 1
    PARAMETER = 2
    TABLE = 3
    TAPS = 4


class Source(enum.IntEnum):
    """Where a Post instruction takes its 32-bit values from."""

    ACCUMULATOR = 0
    MAXIMUM = 1
    """Maximum over a window of the feature buffer."""
    SUM = 2
    """Sum over a window of the feature buffer."""
    DEPTHWISE = 3
    """Sum of taps times weights over a window of the feature buffer."""


def bits(
    width: int,
    doc: str,
    *,
    signed: bool = False,
    minimum: int | None = None,
    depth: str | None = None,
    values: type[enum.IntEnum] | None = None,
    default: int = 0,
) -> Any:
    """Declare a field of `width` bits.

    `minimum` narrows the range from below. `depth` names the AcceleratorConfig attribute that the
    value must stay under. `values` is an enumeration that lists the only legal values.
    """
    return dataclasses.field(
        default=default,
        metadata={"width": width, "doc": doc, "signed": signed, "minimum": minimum,
                  "depth": depth, "values": values},
    )


@dataclass(frozen=True)
class Field:
    """One bit field of an instruction, as the encoder, the hardware and the manual see it."""

    name: str
    offset: int
    width: int
    signed: bool
    minimum: int
    maximum: int
    depth: str | None
    values: type[enum.IntEnum] | None
    doc: str


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Base of all instructions; `wait` and `signal` are masks over :class:`Unit`.

    `rules` are what the fields must fulfil together.
    """

    opcode: ClassVar[int]
    unit: ClassVar[Unit | None]
    summary: ClassVar[str]
    rules: ClassVar[tuple[Rule, ...]] = ()

    wait: int = 0
    signal: int = 0

    def __post_init__(self) -> None:
        for name in ("wait", "signal"):
            self._check_range(name, 0, (1 << TOKEN_BITS) - 1, f"fit in {TOKEN_BITS} bits")
        for field in fields(type(self)):
            if not field.minimum <= getattr(self, field.name) <= field.maximum:
                what = f"{field.width} {'signed ' if field.signed else ''}bits"
                self._check_range(field.name, field.minimum, field.maximum,
                                  f"be {field.minimum} to {field.maximum} ({what})")
            if field.values is not None:
                object.__setattr__(self, field.name, field.values(getattr(self, field.name)))

    def _check_range(self, name: str, low: int, high: int, rule: str) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise InstructionError(
                f"{type(self).__name__}.{name} = {value!r} must {rule}"
            )

    def encode(self) -> bytes:
        """Return the 64 bytes of this instruction."""
        word = self.opcode | self.wait << OPCODE_BITS | self.signal << (OPCODE_BITS + TOKEN_BITS)
        for field in fields(type(self)):
            word |= (int(getattr(self, field.name)) & ((1 << field.width) - 1)) << field.offset
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    def check(self, config: AcceleratorConfig) -> None:
        """Raise InstructionError when a field passes what `config` has, or fields disagree."""
        # mypy takes the hash of the instances for that of the class.
        for name, depth, minimum in _depths(type(self)):  # type: ignore[arg-type]
            limit = getattr(config, depth)
            if not minimum <= getattr(self, name) < limit:
                self._check_range(name, minimum, limit - 1,
                                  f"be under {depth} = {limit} of {config.name!r}")
        for rule in self.rules:
            if rule.applies(self) and not rule.holds(self, config):
                when = f" {rule.when}" if rule.when else ""
                raise InstructionError(
                    f"{type(self).__name__}.{rule.told(self, config)}{when}")

    def __str__(self) -> str:
        return disassemble(self)


@dataclass(frozen=True, kw_only=True)
class End(Instruction):
    """Waits until every unit is idle, then reports completion."""

    opcode: ClassVar[int] = 1
    unit: ClassVar[Unit | None] = None
    summary: ClassVar[str] = "end of program"


_ALIGNED = tuple(Multiple(field=name, of="axi_data_bytes")
                 for name in ("offset", "run_stride", "block_stride"))


@dataclass(frozen=True, kw_only=True)
class Load(Instruction):
    """Reads DDR into a buffer.

    DDR side: `blocks` times `runs` runs of `run_beats` contiguous beats; run r of block b starts at
    ``base[segment] + offset + b*block_stride + r*run_stride``. Buffer side, for WEIGHT, PARAMETER,
    TABLE and TAPS: consecutive beats from `destination`. For FEATURE: lane group g, row y, column
    x of a region at `destination` (see :mod:`pliant.spec.memory`), for g < `groups`, y < `rows`,
    x < `row_beats * words_per_beat`, x fastest. Both sides must have the same number of beats.
    """

    opcode: ClassVar[int] = 2
    unit: ClassVar[Unit | None] = Unit.LOAD
    summary: ClassVar[str] = "DDR to buffer"
    rules: ClassVar[tuple[Rule, ...]] = (
        *_ALIGNED,
        *(Under(field="destination", limit=limit, when=When("target", (target,)))
          for target, limit in (
              (Target.FEATURE, "feature_depth"), (Target.WEIGHT, "weight_depth"),
              (Target.PARAMETER, "parameter_depth"), (Target.TABLE, 1),
              (Target.TAPS, "tap_depth"))),
        Multiple(field="destination", of="parameters_per_beat",
                 when=When("target", (Target.PARAMETER,))),
    )

    target: int = bits(3, "buffer that is written", values=Target)
    segment: int = bits(2, "base register that `offset` is added to")
    offset: int = bits(32, "bytes; a multiple of axi_data_bytes")
    run_beats: int = bits(20, "beats in a contiguous run", minimum=1, default=1)
    runs: int = bits(12, "runs in a block", minimum=1, default=1)
    run_stride: int = bits(28, "bytes from run to run; a multiple of axi_data_bytes")
    blocks: int = bits(12, "blocks", minimum=1, default=1)
    block_stride: int = bits(32, "bytes from block to block; a multiple of axi_data_bytes")
    destination: int = bits(16, "first address: bank address (FEATURE), word (WEIGHT, "
                                "TAPS), record (PARAMETER) or 0 (TABLE)")
    row_beats: int = bits(11, "FEATURE: beats in a row", minimum=1, default=1)
    rows: int = bits(11, "FEATURE: rows", minimum=1, default=1)
    groups: int = bits(12, "FEATURE: lane groups", minimum=1, default=1)
    row_stride: int = bits(12, "FEATURE: bank addresses from a row pair to the next")
    group_stride: int = bits(16, "FEATURE: bank addresses from a lane group to the next")


@dataclass(frozen=True, kw_only=True)
class Store(Instruction):
    """Writes a region of the feature buffer to DDR; the mirror image of Load to FEATURE.

    Signals once the memory has acknowledged every burst.
    """

    opcode: ClassVar[int] = 3
    unit: ClassVar[Unit | None] = Unit.STORE
    summary: ClassVar[str] = "feature buffer to DDR"
    rules: ClassVar[tuple[Rule, ...]] = _ALIGNED

    segment: int = bits(2, "base register that `offset` is added to")
    offset: int = bits(32, "bytes; a multiple of axi_data_bytes")
    run_beats: int = bits(20, "beats in a contiguous run", minimum=1, default=1)
    runs: int = bits(12, "runs in a block", minimum=1, default=1)
    run_stride: int = bits(28, "bytes from run to run; a multiple of axi_data_bytes")
    blocks: int = bits(12, "blocks", minimum=1, default=1)
    block_stride: int = bits(32, "bytes from block to block; a multiple of axi_data_bytes")
    source: int = bits(16, "bank address of the region", depth="feature_depth")
    row_beats: int = bits(11, "beats in a row", minimum=1, default=1)
    rows: int = bits(11, "rows", minimum=1, default=1)
    groups: int = bits(12, "lane groups", minimum=1, default=1)
    row_stride: int = bits(12, "bank addresses from a row pair to the next")
    group_stride: int = bits(16, "bank addresses from a lane group to the next")


_DISPLACING = (
    AtMost(product=("offset_shift",), limit=FRACTION_BITS, when=When("offsets")),
    Ordered(low="offset_min", high="offset_max", when=When("offsets")),
    *(AtMost(product=(side,), limit=MAX_SCALED_KERNEL, when=When("offsets", (Offsets.SCALED,)))
      for side in ("kernel_height", "kernel_width")),
)
"""What holds of the fields that say how taps are displaced."""


@dataclass(frozen=True, kw_only=True)
class Matrix(Instruction):
    """Convolves a region of the feature buffer into one accumulator tile.

    For lane group g < `groups`, kernel row ky and column kx (g slowest): one pass. A pass takes the
    next ``rows`` words of the weight buffer (word r: weights of input lane r, byte c for output
    channel c) and streams the tile's pixels, x fastest: pixel (y, x) reads the word of group g at
    row ``origin_y + y*stride_y + ky*dilation_y``, column likewise; outside
    ``[0, height) x [0, width)`` every lane reads `pad_value`. Pixel (y, x) adds to entry
    ``accumulator_base + y*out_width + x`` of the bank; the first pass overwrites it unless
    `accumulate` is set.

    With `narrow_weights` a word of the weight buffer holds two rows of int4: byte c has row 2r in
    its low and row 2r + 1 in its high half.

    With `offsets` taps are displaced and words interpolated as :mod:`pliant.spec.sampling` defines,
    `pad_value` being the zero point. If `offset_load` is set, the offsets (and masks) of the tile
    are first copied from their regions, where pixel (0, 0) is at ``(offset_y, offset_x)``, to the
    offset memory; else they are still there from an instruction before, for a tile of equal size.
    """

    opcode: ClassVar[int] = 4
    unit: ClassVar[Unit | None] = Unit.MATRIX
    summary: ClassVar[str] = "window of features times weights to accumulators"
    rules: ClassVar[tuple[Rule, ...]] = (
        AtMost(product=("out_height", "out_width"), plus="accumulator_base",
               limit="accumulator_depth"),
        AtMost(product=("out_height", "out_width", "offset_groups"), limit="offset_depth",
               when=When("offsets")),
        AtMost(product=("out_height", "out_width", "mask_groups"), limit="mask_depth",
               when=When("offsets", (Offsets.MODULATED,))),
        *_DISPLACING,
    )

    source: int = bits(16, "bank address of the input region", depth="feature_depth")
    group_stride: int = bits(16, "bank addresses from a lane group to the next")
    row_stride: int = bits(12, "bank addresses from a row pair to the next")
    height: int = bits(11, "rows of the input region", minimum=1, default=1)
    width: int = bits(11, "columns of the input region", minimum=1, default=1)
    origin_y: int = bits(12, "row that output (0, 0) reads with ky = 0", signed=True)
    origin_x: int = bits(12, "column that output (0, 0) reads with kx = 0", signed=True)
    groups: int = bits(12, "input lane groups", minimum=1, default=1)
    kernel_height: int = bits(8, "kernel rows", minimum=1, default=1)
    kernel_width: int = bits(8, "kernel columns", minimum=1, default=1)
    dilation_y: int = bits(4, "rows between kernel rows", minimum=1, default=1)
    dilation_x: int = bits(4, "columns between kernel columns", minimum=1, default=1)
    stride_y: int = bits(4, "rows between outputs", minimum=1, default=1)
    stride_x: int = bits(4, "columns between outputs", minimum=1, default=1)
    out_height: int = bits(11, "rows of the output tile", minimum=1, default=1)
    out_width: int = bits(11, "columns of the output tile", minimum=1, default=1)
    pad_value: int = bits(8, "value outside the region", signed=True)
    weights: int = bits(16, "first word in the weight buffer", depth="weight_depth")
    accumulator_bank: int = bits(1, "bank that is filled")
    accumulator_base: int = bits(12, "entry of pixel (0, 0)", depth="accumulator_depth")
    accumulate: int = bits(1, "add to what the entries hold")
    narrow_weights: int = bits(1, "weights are int4")
    offsets: int = bits(2, "what displaces the taps", values=Offsets)
    interpolate: int = bits(1, "offsets: bilinear; else the nearest pixel")
    offset_shift: int = bits(3, "offsets: left shift to sixteenths of a pixel")
    offset_min: int = bits(8, "lower clamp of an offset, before the shift", signed=True)
    offset_max: int = bits(8, "upper clamp of an offset", signed=True)
    offset_load: int = bits(1, "copy the tile's offsets and masks to the offset memory")
    offset_source: int = bits(16, "bank address of the offset region", depth="feature_depth")
    offset_group_stride: int = bits(16, "bank addresses from a lane group to the next")
    offset_row_stride: int = bits(12, "bank addresses from a row pair to the next")
    offset_y: int = bits(11, "row of output (0, 0) in the offset region")
    offset_x: int = bits(11, "column of output (0, 0) in the offset region")
    offset_groups: int = bits(4, "lane groups of offsets", minimum=1, default=1)
    mask_source: int = bits(16, "MODULATED: bank address of the mask region",
                            depth="feature_depth")
    mask_group_stride: int = bits(16, "bank addresses from a lane group to the next")
    mask_row_stride: int = bits(12, "bank addresses from a row pair to the next")
    mask_y: int = bits(11, "row of output (0, 0) in the mask region")
    mask_x: int = bits(11, "column of output (0, 0) in the mask region")
    mask_groups: int = bits(4, "lane groups of masks", minimum=1, default=1)

    def sampling(self) -> Sampling | None:
        """Return how the taps are displaced; None if they are not."""
        return _sampling(self, interpolate=bool(self.interpolate))


@dataclass(frozen=True, kw_only=True)
class Post(Instruction):
    """Post-processes 32-bit values into a region of the feature buffer, one word a step.

    For lane group g < `groups`, pixel (y, x) of ``out_height x out_width`` (x fastest). The value
    of lane l is, by `source`: ACCUMULATOR, column ``g*lanes + l`` of entry ``accumulator_base +
    y*out_width + x`` of the bank; MAXIMUM or SUM, taken over ky < `kernel_height`,
    kx < `kernel_width` of the words of group g at the positions that Matrix defines, `pad_value`
    outside the region; DEPTHWISE, the same sum with each tap multiplied by its weight (tap words
    from `taps` on, see :func:`pliant.spec.memory.pack_taps`). Then, with the parameter record of
    channel ``g*lanes + l`` modulo ``cols``: requantize (bias added first), clip to
    `clip_min`..`clip_max`; if `add_enable`, add the residual word of group g at
    ``(residual_y + y, residual_x + x)`` as :func:`pliant.spec.numerics.add` does; if
    `table_enable`, replace v by ``table[v & 255]``. Written to group g at
    ``(destination_y + y, destination_x + x)``; with `upsample` to those of the four pixels from
    ``(destination_y + 2*y, destination_x + 2*x)`` on that have a bit in it, one address of the
    banks.

    With `offsets`, of up to four lane groups, DEPTHWISE taps are displaced to the nearest pixel, as
    :mod:`pliant.spec.sampling` defines without interpolation, `pad_value` being the zero point. The
    offsets of pixel (y, x) are the words at ``(residual_y + y, residual_x + x)`` of the first
    `offset_groups` lane groups of the residual region. Tap words are those of
    :func:`pliant.spec.memory.pack_displaced_taps`, and every lane group has parameter records of
    its own, that of channel ``g*lanes + l`` not modulo ``cols``.
    """

    opcode: ClassVar[int] = 5
    unit: ClassVar[Unit | None] = Unit.POST
    summary: ClassVar[str] = "accumulators or window reduction to features"
    rules: ClassVar[tuple[Rule, ...]] = (
        AtMost(product=("out_height", "out_width"), plus="accumulator_base",
               limit="accumulator_depth", when=When("source", (Source.ACCUMULATOR,))),
        AtMost(product=("groups",), limit="groups_per_tile",
               when=When("source", (Source.ACCUMULATOR,))),
        Multiple(field="parameters", of="cols"),
        *(Multiple(field=name, of=2, when=When("upsample"))
          for name in ("destination_y", "destination_x")),
        Ordered(low="clip_min", high="clip_max"),
        Ordered(low="add_clip_min", high="add_clip_max"),
        AtMost(product=("offsets",), limit=Offsets.PER_TAP),
        AtMost(product=("offsets",), limit=0,
               when=When("source", (Source.ACCUMULATOR, Source.MAXIMUM, Source.SUM))),
        AtMost(product=("groups",), limit=FEATURE_BANKS, when=When("offsets")),
        AtMost(product=("offset_groups",), limit="displaced_groups", when=When("offsets")),
        AtMost(product=("add_enable",), limit=0, when=When("offsets")),
        Odd(field="window_group_stride", when=When("offsets")),
        *_DISPLACING,
    )

    source: int = bits(2, "where values come from", values=Source)
    accumulator_bank: int = bits(1, "ACCUMULATOR: bank that is read")
    accumulator_base: int = bits(12, "ACCUMULATOR: entry of pixel (0, 0)",
                                 depth="accumulator_depth")
    window: int = bits(16, "windows: bank address of the input region", depth="feature_depth")
    window_group_stride: int = bits(16, "bank addresses from a lane group to the next")
    window_row_stride: int = bits(12, "bank addresses from a row pair to the next")
    height: int = bits(11, "rows of the input region", minimum=1, default=1)
    width: int = bits(11, "columns of the input region", minimum=1, default=1)
    origin_y: int = bits(12, "row that output (0, 0) reads with ky = 0", signed=True)
    origin_x: int = bits(12, "column that output (0, 0) reads with kx = 0", signed=True)
    kernel_height: int = bits(8, "window rows", minimum=1, default=1)
    kernel_width: int = bits(8, "window columns", minimum=1, default=1)
    stride_y: int = bits(4, "rows between outputs", minimum=1, default=1)
    stride_x: int = bits(4, "columns between outputs", minimum=1, default=1)
    dilation_y: int = bits(4, "rows between window rows", minimum=1, default=1)
    dilation_x: int = bits(4, "columns between window columns", minimum=1, default=1)
    pad_value: int = bits(8, "value outside the region", signed=True)
    taps: int = bits(16, "DEPTHWISE: first tap word", depth="tap_depth")
    groups: int = bits(12, "lane groups; with ACCUMULATOR at most cols / lanes",
                       minimum=1, default=1)
    out_height: int = bits(11, "rows of the output", minimum=1, default=1)
    out_width: int = bits(11, "columns of the output", minimum=1, default=1)
    destination: int = bits(16, "bank address of the output region", depth="feature_depth")
    destination_group_stride: int = bits(16, "bank addresses from a lane group to the next")
    destination_row_stride: int = bits(12, "bank addresses from a row pair to the next")
    destination_y: int = bits(11, "row of output (0, 0) in its region")
    destination_x: int = bits(11, "column of output (0, 0) in its region")
    upsample: int = bits(4, "pixels of a block of 2x2, row by row, that a word is written to; 0: "
                            "no blocks, else destination_y and _x are even")
    parameters: int = bits(12, "first of cols parameter records; a multiple of cols",
                           depth="parameter_depth")
    rounding: int = bits(2, "rounding of both shifts", values=Rounding)
    zero_point: int = bits(8, "zero point of the requantized value", signed=True)
    clip_min: int = bits(8, "lower bound of the requantized value", signed=True, default=-128)
    clip_max: int = bits(8, "upper bound of the requantized value", signed=True, default=127)
    add_enable: int = bits(1, "add a residual word")
    residual: int = bits(16, "bank address of the residual region", depth="feature_depth")
    residual_group_stride: int = bits(16, "bank addresses from a lane group to the next")
    residual_row_stride: int = bits(12, "bank addresses from a row pair to the next")
    residual_y: int = bits(11, "row of output (0, 0) in the residual region")
    residual_x: int = bits(11, "column of output (0, 0) in the residual region")
    add_multiplier: int = bits(9, "multiplier of the requantized value", signed=True)
    add_residual_multiplier: int = bits(9, "multiplier of the residual", signed=True)
    add_offset: int = bits(20, "added before the shift (zero points)", signed=True)
    add_shift: int = bits(5, "right shift of the sum")
    add_zero_point: int = bits(8, "zero point of the sum", signed=True)
    add_clip_min: int = bits(8, "lower bound of the sum", signed=True, default=-128)
    add_clip_max: int = bits(8, "upper bound of the sum", signed=True, default=127)
    table_enable: int = bits(1, "look the result up in the table")
    offsets: int = bits(2, "DEPTHWISE: what displaces the taps", values=Offsets)
    offset_shift: int = bits(3, "offsets: left shift to sixteenths of a pixel")
    offset_min: int = bits(8, "lower clamp of an offset, before the shift", signed=True)
    offset_max: int = bits(8, "upper clamp of an offset", signed=True)
    offset_groups: int = bits(4, "lane groups of offsets, which the residual region then holds",
                              minimum=1, default=1)

    def sampling(self) -> Sampling | None:
        """Return how the taps are displaced; None if they are not."""
        return _sampling(self, interpolate=False)


def _sampling(instruction: Matrix | Post, *, interpolate: bool) -> Sampling | None:
    if not instruction.offsets:
        return None
    return Sampling(
        offsets=Offsets(instruction.offsets), minimum=instruction.offset_min,
        maximum=instruction.offset_max, interpolate=interpolate,
        fraction_bits=FRACTION_BITS - instruction.offset_shift)


INSTRUCTIONS: tuple[type[Instruction], ...] = (End, Load, Store, Matrix, Post)


def fields(kind: type[Instruction]) -> tuple[Field, ...]:
    """Return the fields of an instruction class, without the common header, in bit order."""
    cached: tuple[Field, ...] | None = kind.__dict__.get("_fields")
    if cached is None:
        cached = tuple(_fields(kind))
        assert not cached or cached[-1].offset + cached[-1].width <= 8 * INSTRUCTION_BYTES
        kind._fields = cached  # type: ignore[attr-defined]  # a cache beside the dataclass
    return cached


@functools.cache
def _depths(kind: type[Instruction]) -> tuple[tuple[str, str, int], ...]:
    """Return name, attribute of the configuration and minimum of the fields that it bounds."""
    return tuple((field.name, field.depth, field.minimum) for field in fields(kind)
                 if field.depth is not None)


def _fields(kind: type[Instruction]) -> Iterator[Field]:
    offset = HEADER_BITS
    for field in dataclasses.fields(kind):
        meta = field.metadata
        if "width" not in meta:
            continue
        width, signed = meta["width"], meta["signed"]
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        if meta["minimum"] is not None:
            low = meta["minimum"]
        if meta["values"] is not None:
            high = max(meta["values"])
        yield Field(field.name, offset, width, signed, low, high, meta["depth"], meta["values"],
                    meta["doc"])
        offset += width


def disassemble(instruction: Instruction) -> str:
    """Return one line of text; fields at their default are left out."""
    parts = [type(instruction).__name__.lower()]
    for name in ("wait", "signal"):
        mask = getattr(instruction, name)
        if mask:
            units = "+".join(unit.name.lower() for unit in Unit if mask >> unit & 1)
            parts.append(f"{name}={units}")
    defaults = {f.name: f.default for f in dataclasses.fields(instruction)}
    for field in fields(type(instruction)):
        value = getattr(instruction, field.name)
        if value != defaults[field.name]:
            text = field.values(value).name.lower() if field.values else str(value)
            parts.append(f"{field.name}={text}")
    return " ".join(parts)


