"""The memory ports of a core that has several, and which of them an address belongs to."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

from amaranth import Cat, Const, Value

from pliant.spec.config import AcceleratorConfig

MOST_BEATS = 256
"""Beats of the longest AXI4 burst (A3.4.1)."""


@dataclass(frozen=True, kw_only=True)
class MemoryPorts:
    """How many AXI4 masters a core has to memory, and how wide each is.

    Attributes
    ----------
    count : int
        1, 2 or 4.
    data_bytes : int
        Width of each in bytes: that of the port of the processing system behind it.
    """

    count: int
    data_bytes: int

    def __post_init__(self) -> None:
        if self.count not in (1, 2, 4):
            raise ValueError(f"count = {self.count} of memory ports must be 1, 2 or 4")
        if self.data_bytes not in (4, 8, 16, 32, 64, 128):
            raise ValueError(f"data_bytes = {self.data_bytes} of memory ports must be a power of "
                             "two from 4 to 128")

    def ratio(self, config: AcceleratorConfig) -> int:
        """Return the port's beats in a beat of the core; ValueError if the ports do not fit it."""
        ratio, rest = divmod(config.axi_data_bytes, self.data_bytes)
        if rest or not ratio:
            raise ValueError(f"data_bytes = {self.data_bytes} of memory ports must divide "
                             f"axi_data_bytes ({config.axi_data_bytes})")
        if ratio * config.axi_burst_beats > MOST_BEATS:
            raise ValueError(f"bursts of {config.axi_burst_beats} beats of {config.axi_data_bytes} "
                             f"bytes take more than {MOST_BEATS} of {self.data_bytes}")
        return ratio

    @property
    def index_bits(self) -> int:
        """Bits of a port's index, at least one."""
        return max(1, (self.count - 1).bit_length())


def line_bytes(config: AcceleratorConfig) -> int:
    """Return the granularity of interleaving: the longest burst.

    The core's bursts end at its multiples, so that each lies in one line, and so at one port.
    """
    return config.axi_burst_beats * config.axi_data_bytes


def port_of(config: AcceleratorConfig, ports: MemoryPorts, address: Value) -> Value:
    """Return the index of the port that an address belongs to.

    Consecutive lines take turns. The address bits above the turn are folded onto it, so that steps
    of any power of two do not stay at one port.
    """
    low, bits = line_bytes(config).bit_length() - 1, ports.index_bits
    if ports.count == 1:
        return Const(0, bits)
    digits = [address[start:start + bits] for start in range(low, len(address), bits)]
    return functools.reduce(operator.xor, digits)[:bits]


def port_number(config: AcceleratorConfig, ports: MemoryPorts, address: int) -> int:
    """Return what :func:`port_of` comes to: the digits of the line's number, combined by xor."""
    line, port = address // line_bytes(config), 0
    while line and ports.count > 1:
        line, digit = divmod(line, ports.count)
        port ^= digit
    return port


def widened(config: AcceleratorConfig, ports: MemoryPorts, length: Any) -> Value:
    """Return AxLEN at a port of a burst of `length` beats less one of the core."""
    shift = ports.ratio(config).bit_length() - 1
    return Cat(Const((1 << shift) - 1, shift), length)[:8]
