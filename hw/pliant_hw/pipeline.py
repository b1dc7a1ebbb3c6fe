"""Pieces of fixed-latency pipelines: delays, stage enables, clamping."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Cat, Module, Mux, Shape, Signal, Value, signed


def delayed(
    m: Module, value: Signal, cycles: int, name: str, *, reset_less: bool = False
) -> Signal:
    """Return `value` some cycles later."""
    shape: Shape = value.shape()
    for stage in range(cycles):
        later = Signal(shape, name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value


def loaded(m: Module, load: Value, value: Signal, name: str) -> Signal:
    """Return `value` as it was in the last cycle with `load`."""
    register = Signal(value.shape(), name=name, reset_less=True)
    with m.If(load):
        m.d.sync += register.eq(value)
    return register


def stages(m: Module, valid: Value, latency: int, name: str = "valid") -> list[Value]:
    """Return `valid` after 0, 1, ... `latency` cycles: the enables of a pipeline's stages.

    A stage that only moves when a word is in it saves power, and simulators its evaluation.
    """
    taps = [valid]
    for stage in range(latency):
        later = Signal(name=f"{name}_{stage}")
        m.d.sync += later.eq(taps[-1])
        taps.append(later)
    return taps


def remaining(count: Value, taken: Value, wanted: Sequence[int]) -> Value:
    """Return, a bit for each of `wanted`, whether so many are left of `count` less `taken`.

    So a count may be taken from one cycle late, where what takes comes late in its own cycle.
    """
    return Cat((count > number) | ((count == number) & ~taken) for number in wanted)


def clip(m: Module, value: object, low: object, high: object, result: Signal) -> None:
    """Register `value` clamped to [low, high] in `result`."""
    wide = Signal(signed(12), name="unclipped")
    m.d.comb += wide.eq(value)
    m.d.sync += result.eq(Mux(wide < low, low, Mux(wide > high, high, wide)))


def add_with_carry(a: Value, b: Value, carry: Value) -> Value:
    """Return signed ``a + b + carry`` by one adder: the carry enters below the lowest bit."""
    return (Cat(1, a).as_signed() + Cat(carry, b).as_signed()) >> 1
