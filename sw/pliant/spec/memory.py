"""Layouts shared by compiler, simulators, hardware and driver.

Feature region (on chip): lane group g begins at bank address ``start = base + g*group_stride``;
its row y, column x lies at ``start + (y >> 1)*row_stride + (x >> 1)`` of bank
``((y & 1) * 2 + (x & 1)) ^ (start & 3)``. Lane l of the word is channel ``g*lanes + l``. Any 2x2
neighbourhood is thus one access to each bank, and, where `group_stride` is odd, so is one pixel of
any four lane groups in a row.

Feature tensor (DDR): planes of lane groups; word (g, y, x) of `lanes` bytes at
``((g*height + y)*pitch + x) * lanes``, where `pitch`, the row length in words, is the width rounded
up to whole beats.

Weights (DDR and buffer): for each tile of ``cols`` output channels and each pass (input lane group,
kernel row, kernel column; group slowest) ``rows`` words of ``cols`` int8: word r, byte c is the
weight of input channel ``g*rows + r`` for output channel ``tile*cols + c``; 0 beyond either end.
Narrow weights, int4 in -7..7, take half of that: byte c of word r has the weights of input channels
``g*rows + 2*r``, in its low half, and ``g*rows + 2*r + 1``, each in two's complement.

Taps (weights of a depthwise convolution) are int8 always: see :func:`pack_taps` and, where taps are
displaced, :func:`pack_displaced_taps`.

Parameters: one record per output channel, little-endian. Up to 16 multiplier bits, 8 bytes: int32
bias, uint16 multiplier, uint8 shift, 0. With 31, 16 bytes: int32 bias, uint32 multiplier, uint8
shift, 7 zeros.

Table: 256 bytes; entry ``v & 255`` is the result for int8 v.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.numerics import NARROW_WEIGHT_MAX, NARROW_WEIGHT_MIN, IntArray

TABLE_BYTES = 256
"""One result for each int8."""


def ceil_div(value: int, divisor: int) -> int:
    """Return `value / divisor` rounded up."""
    return -(-value // divisor)


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is not below `value`."""
    return ceil_div(value, multiple) * multiple


def bank_of(start: int, y: int, x: int) -> int:
    """Return the bank of pixel (y, x) of a lane group that begins at address `start`."""
    return ((y & 1) << 1 | (x & 1)) ^ (start & FEATURE_BANKS - 1)


def region_strides(height: int, width: int) -> tuple[int, int]:
    """Return (group_stride, row_stride) in bank addresses of a dense region.

    The group stride is odd, so that neighbouring lane groups of a pixel lie in different banks.
    """
    row_stride = ceil_div(width, 2)
    return ceil_div(height, 2) * row_stride | 1, row_stride


def aligned_rows(row_stride: int) -> int:
    """Return how many rows further on a region's pixels lie in the same banks again.

    Only at multiples of them may a region begin that is part of another one.
    """
    return 2 * FEATURE_BANKS // math.gcd(row_stride, FEATURE_BANKS)


def row_pitch(config: AcceleratorConfig, width: int) -> int:
    """Return the words from row to row of a feature tensor in DDR."""
    return round_up(width, config.words_per_beat)


def feature_tensor_bytes(config: AcceleratorConfig, height: int, width: int, channels: int) -> int:
    """Return the bytes that a feature tensor takes in DDR."""
    groups = ceil_div(channels, config.lanes)
    return groups * height * row_pitch(config, width) * config.lanes


def pack_features(config: AcceleratorConfig, tensor: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Lay out an int8 tensor (channels, height, width) as DDR bytes; unused bytes are 0."""
    channels, height, width = tensor.shape
    groups, pitch = ceil_div(channels, config.lanes), row_pitch(config, width)
    padded = np.zeros((groups * config.lanes, height, pitch), np.int8)
    padded[:channels, :, :width] = tensor
    grouped = padded.reshape(groups, config.lanes, height, pitch).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(grouped).view(np.uint8).reshape(-1)


def unpack_features(
    config: AcceleratorConfig, data: NDArray[np.uint8], shape: tuple[int, int, int]
) -> NDArray[np.int8]:
    """Undo :func:`pack_features` for a tensor of `shape` (channels, height, width)."""
    channels, height, width = shape
    groups, pitch = ceil_div(channels, config.lanes), row_pitch(config, width)
    grouped = data.view(np.int8).reshape(groups, height, pitch, config.lanes)
    planar = grouped.transpose(0, 3, 1, 2).reshape(groups * config.lanes, height, pitch)
    return np.array(planar[:channels, :, :width], order="C")  # a copy even where a view would do


def pass_words(config: AcceleratorConfig, *, narrow: bool) -> int:
    """Return the words of the weight buffer that one pass takes."""
    return config.rows // 2 if narrow else config.rows


def fit_narrow(weights: NDArray[np.int8]) -> bool:
    """Return whether all weights are within the narrow range of int4."""
    return bool(weights.min(initial=0) >= NARROW_WEIGHT_MIN
                and weights.max(initial=0) <= NARROW_WEIGHT_MAX)


def pack_weights(
    config: AcceleratorConfig, weights: NDArray[np.int8], *, narrow: bool = False
) -> NDArray[np.int8]:
    """Lay out int8 weights (out, in, kernel_height, kernel_width), two to a byte if `narrow`.

    Returns an array (tile, group, kernel_height, kernel_width, words of a pass, cols): C order is
    the order in DDR and in the buffer.

    Raises
    ------
    ValueError
        Weights that shall be narrow are not.
    """
    if narrow and not fit_narrow(weights):
        raise ValueError(f"narrow weights are {weights.min()} to {weights.max()}, they must be "
                         f"{NARROW_WEIGHT_MIN} to {NARROW_WEIGHT_MAX}")
    out, inner, height, width = weights.shape
    tiles, groups = ceil_div(out, config.cols), ceil_div(inner, config.rows)
    padded = np.zeros((tiles * config.cols, groups * config.rows, height, width), np.int8)
    padded[:out, :inner] = weights
    split = padded.reshape(tiles, config.cols, groups, config.rows, height, width)
    packed = np.ascontiguousarray(split.transpose(0, 2, 4, 5, 3, 1))
    if not narrow:
        return packed
    halves = packed.view(np.uint8) & 15
    return (halves[..., ::2, :] | halves[..., 1::2, :] << 4).view(np.int8)


def narrow_rows(words: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the weights, int8 (2 * words, cols), in words of narrow ones, int8 (words, cols)."""
    rows = np.empty((2 * len(words), words.shape[1]), np.int8)
    np.right_shift((words.view(np.uint8) << 4).view(np.int8), 4, out=rows[::2])
    np.right_shift(words, 4, out=rows[1::2])
    return rows


def patch_taps(dilation: int) -> int:
    """Return how many taps of one axis are read side by side.

    Two that lie in banks of different parity, one where dilation puts all taps in one parity.
    """
    return 1 + dilation % 2


def patch_grid(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of patches that a window is read in."""
    return (ceil_div(kernel[0], patch_taps(dilation[0])),
            ceil_div(kernel[1], patch_taps(dilation[1])))


def paired(kernel: tuple[int, int], stride: int, dilation: tuple[int, int]) -> bool:
    """Return whether two outputs of a depthwise window, side by side, are computed at once.

    `stride` is the horizontal one. Both windows are read as one, `stride` columns wider; that
    never takes more patches than both alone. Windows of one patch already give a word a cycle.
    """
    rows, columns = patch_grid(kernel, dilation)
    return dilation[1] == 1 and stride <= 2 and rows * columns > 1


def row_patches(
    kernel: tuple[int, int], stride: int, dilation: tuple[int, int], outputs: int, *,
    depthwise: bool,
) -> int:
    """Return the patches, one a cycle, that the windows of a row of `outputs` are read in."""
    rows, columns = patch_grid(kernel, dilation)
    pairs = outputs // 2 if depthwise and paired(kernel, stride, dilation) else 0
    _, wider = patch_grid((kernel[0], kernel[1] + stride), dilation)
    return rows * (pairs * wider + (outputs - 2 * pairs) * columns)


def displaced_cycles(kernel: tuple[int, int], groups: int, offset_groups: int) -> int:
    """Return the cycles that the post unit takes for a pixel of displaced windows.

    It reads a tap of all its up to four lane groups in a cycle, and puts out a word; a word of
    offsets is taken in a cycle as well.
    """
    return max(kernel[0] * kernel[1], groups, offset_groups)


def pack_taps(
    config: AcceleratorConfig, weights: NDArray[np.int8], dilation: tuple[int, int]
) -> NDArray[np.int8]:
    """Lay out depthwise weights, int8 (channels, kernel height, kernel width), as tap words.

    A window is read in patches of up to two by two taps (:func:`patch_taps` each way), row by row.
    Returns an array (group, patch row, patch column, 2, 2, lanes): a word holds the taps (0, 0),
    (0, 1), (1, 0), (1, 1) of a patch, 0 for those outside kernel or patch.
    """
    channels, height, width = weights.shape
    high, wide = patch_taps(dilation[0]), patch_taps(dilation[1])
    groups = ceil_div(channels, config.lanes)
    rows, columns = patch_grid((height, width), dilation)
    padded = np.zeros((groups * config.lanes, rows * high, columns * wide), np.int8)
    padded[:channels, :height, :width] = weights
    split = padded.reshape(groups, config.lanes, rows, high, columns, wide)
    words = np.zeros((groups, rows, columns, 2, 2, config.lanes), np.int8)
    words[:, :, :, :high, :wide] = split.transpose(0, 2, 4, 3, 5, 1)
    return words


def pack_displaced_taps(
    config: AcceleratorConfig, weights: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Lay out depthwise weights, int8 (channels, kernel height, kernel width), of displaced taps.

    Returns an array (four lane groups, kernel row, kernel column, 4, lanes): a word holds one tap
    of four lane groups, 0 for those beyond the last channel.
    """
    channels, height, width = weights.shape
    together = FEATURE_BANKS * config.lanes
    padded = np.zeros((round_up(channels, together), height, width), np.int8)
    padded[:channels] = weights
    split = padded.reshape(-1, FEATURE_BANKS, config.lanes, height, width)
    return np.ascontiguousarray(split.transpose(0, 3, 4, 1, 2))


def pack_parameters(
    config: AcceleratorConfig,
    bias: IntArray,
    multiplier: IntArray,
    shift: IntArray,
) -> NDArray[np.uint8]:
    """Lay out per-channel records, with zero records up to a multiple of ``cols`` channels."""
    channels = len(bias)
    wide = config.parameter_bytes == 16
    record = np.dtype([("bias", "<i4"), ("multiplier", "<u4" if wide else "<u2"), ("shift", "u1"),
                       ("zero", "u1", (7 if wide else 1,))])
    assert record.itemsize == config.parameter_bytes
    records = np.zeros(round_up(channels, config.cols), record)
    records["bias"][:channels] = bias
    records["multiplier"][:channels] = multiplier
    records["shift"][:channels] = shift
    return records.view(np.uint8).reshape(-1)
