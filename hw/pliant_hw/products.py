"""Which products are formed in DSP slices, and which in look-up tables."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Module, Signal, Value

from pliant.spec.config import AcceleratorConfig
from pliant_hw.dsp import DSP48E1, MULTIPLIER_BITS

PATCH_TAPS = 4
"""Taps (0, 0), (0, 1), (1, 0), (1, 1) of a patch."""

ROW_BITS = 7
"""Lower bits of a row that are multiplied apart from the upper ones: a factor of an int8."""

ROW_PART = 4
"""Bits of a row that are multiplied at a time where more would be too deep."""

VALUE_BITS = 32
"""Signed; what the requantizer multiplies."""


def lut_product(m: Module, a: Value, b: Value, name: str) -> Signal:
    """Return ``a * b``, formed in look-up tables.

    The attribute is Vivado's (UG901), which otherwise chooses by the operands' widths. It counts
    where the multiplication alone drives the signal: call this outside of conditions.
    """
    product = Signal((a * b).shape(), name=name, attrs={"use_dsp": "no"})
    m.d.comb += product.eq(a * b)
    return product


def row_products(
    m: Module, row: Value, stride: Value, name: str, address_bits: int
) -> tuple[Value, Value]:
    """Return two products, formed in look-up tables, whose sum is the address ``row * stride``.

    The upper bits of `row` reach few bits of the address; two short products are no deeper than
    the ones of lanes. Both are to be registered before they are added.
    """
    low = lut_product(m, row[:ROW_BITS], stride, f"{name}_low")
    high = lut_product(m, row[ROW_BITS:], stride, f"{name}_high")
    return low[:address_bits], (high << ROW_BITS)[:address_bits]


def row_parts(m: Module, row: Value, stride: Value, name: str) -> list[Value]:
    """Return products like those of :func:`row_products`, for :func:`joined_row`: more, shorter.

    Both are to be registered before they are added.
    """
    return [lut_product(m, row[first:first + ROW_PART], stride, f"{name}_{first}")
            for first in range(0, len(row), ROW_PART)]


def joined_row(parts: Sequence[Value]) -> Value:
    """Return ``row * stride`` of its parts."""
    return sum((part << ROW_PART * index for index, part in enumerate(parts[1:], 1)), parts[0])


def requantizer_slices(config: AcceleratorConfig) -> int:
    """Return the DSP slices of one requantizer lane; a slice's operands are signed.

    That of the narrower slice, DSP48E1; the wider one needs no fewer.
    """
    parts = -(-VALUE_BITS // DSP48E1.multiplicand_bits)
    return parts * -(-(config.multiplier_bits + 1) // MULTIPLIER_BITS)


def depthwise_slices(config: AcceleratorConfig) -> int:
    """Return how many taps of each lane multiply in a DSP slice; the others do in look-up tables.

    As many as ``board.dsp_slices`` allows after the packed matrix array, two products to a slice,
    and the requantizer.
    """
    array = config.rows * config.cols // 2
    left = config.board.dsp_slices - array - config.lanes * requantizer_slices(config)
    return max(0, min(PATCH_TAPS, left // config.lanes))
