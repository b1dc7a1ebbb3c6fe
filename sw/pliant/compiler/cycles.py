"""What single instructions cost, in cycles. Constants are measured on the RTL."""

from __future__ import annotations

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Load, Matrix, Post, Source, Store
from pliant.spec.memory import displaced_cycles, row_patches
from pliant.spec.sampling import Offsets

MATRIX_OVERHEAD = 8
"""Cycles of a Matrix instruction besides its words."""
COPY_OVERHEAD = 40
"""Cycles of a copy of offsets besides its words: the pipeline is empty before and after it."""
POST_OVERHEAD = 4
"""Cycles between the words of two Post instructions."""
TRANSFER_OVERHEAD = 16
"""Cycles that a Load or Store adds to its beats: addresses go ahead of data."""


def matrix_cycles(matrix: Matrix, config: AcceleratorConfig) -> int:
    """Return the cycles of a Matrix instruction; a pass takes ``rows`` of them to load weights."""
    passes = matrix.groups * matrix.kernel_height * matrix.kernel_width
    pixels = matrix.out_height * matrix.out_width
    cycles = passes * max(pixels, config.rows) + MATRIX_OVERHEAD
    if matrix.offsets and matrix.offset_load:
        masks = matrix.mask_groups if matrix.offsets == Offsets.MODULATED else 0
        cycles += copy_cycles(pixels * (matrix.offset_groups + masks))
    return cycles


def copy_cycles(words: int) -> int:
    """Return the cycles that a copy of so many words of offsets and masks costs the matrix unit."""
    return words + COPY_OVERHEAD


def post_cycles(post: Post) -> int:
    """Return the cycles of a Post instruction."""
    row = post.out_width
    kernel = post.kernel_height, post.kernel_width
    if post.offsets:
        pixels = post.out_height * post.out_width
        each = displaced_cycles(kernel, post.groups, post.offset_groups)
        return pixels * each + POST_OVERHEAD
    if post.source != Source.ACCUMULATOR:
        row = row_patches(kernel, post.stride_x, (post.dilation_y, post.dilation_x), row,
                          depthwise=post.source == Source.DEPTHWISE)
    return post.groups * post.out_height * row + POST_OVERHEAD


def transfer_cycles(transfer: Load | Store, config: AcceleratorConfig) -> float:
    """Return the cycles for which a Load or Store occupies the memory."""
    size = transfer.run_beats * transfer.runs * transfer.blocks * config.axi_data_bytes
    return size / bandwidth(config) + TRANSFER_OVERHEAD


def bandwidth(config: AcceleratorConfig) -> int:
    """Return the bytes that memory and bus move in a cycle."""
    return min(config.board.ddr_bytes_per_cycle, config.axi_data_bytes)
