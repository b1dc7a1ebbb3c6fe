"""Right shift with rounding, the one piece that requantizer and residual adder share."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.numerics import Rounding

ROUNDED_BITS = 11
"""Signed; the result is clamped to these: any int8 zero point still saturates it to int8."""

ROUNDING_LATENCY = 2


class RoundingShifter(wiring.Component):
    """``clamp(rounding_shift(value, shift, rounding))``, one value a cycle, latency 2.

    Implements :func:`pliant.spec.numerics.rounding_shift`.

    Parameters
    ----------
    width : int
        Bits of the signed value.
    shift_bits : int
        Bits of the shift.

    Members
    -------
    enable : In   one bit for each of the two stages, high where a value of interest moves on
    value, shift, rounding : In
    result : Out   signed(ROUNDED_BITS), clamped
    """

    enable: Signal
    value: Signal
    shift: Signal
    rounding: Signal
    result: Signal

    def __init__(self, *, width: int, shift_bits: int) -> None:
        self._width = width
        super().__init__({
            "enable": In(ROUNDING_LATENCY),
            "value": In(signed(width)),
            "shift": In(shift_bits),
            "rounding": In(Rounding),
            "result": Out(signed(ROUNDED_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # One fraction bit is kept below the integer part; `sticky` says whether more follow.
        shifted = Signal(signed(self._width + 1), reset_less=True)
        sticky = Signal(reset_less=True)
        negative = Signal(reset_less=True)
        rounding = Signal(Rounding, reset_less=True)
        # A table for each bit: one level of look-up tables.
        below_half = Cat(self.shift > bit + 1 for bit in range(self._width))
        with m.If(self.enable[0]):
            m.d.sync += [
                shifted.eq(Cat(0, self.value).as_signed() >> self.shift),
                sticky.eq((self.value & below_half).any()),
                negative.eq(self.value < 0),
                rounding.eq(self.rounding),
            ]
        integer = Signal(signed(self._width))
        half = Signal()
        up = Signal()
        m.d.comb += [integer.eq(shifted[1:].as_signed()), half.eq(shifted[0])]
        with m.Switch(rounding):
            with m.Case(Rounding.HALF_EVEN):
                m.d.comb += up.eq(half & (sticky | integer[0]))
            with m.Case(Rounding.HALF_UP):
                m.d.comb += up.eq(half)
            with m.Default():
                m.d.comb += up.eq(half & (sticky | ~negative))
        high = (1 << (ROUNDED_BITS - 1)) - 2  # room for the carry of `up`
        low = -high
        result = Signal.like(self.result, reset_less=True)
        m.d.comb += self.result.eq(result)
        with m.If(self.enable[1]):
            m.d.sync += result.eq(
                Mux(integer > high, high, Mux(integer < low, low, integer)) + up)
        return m
