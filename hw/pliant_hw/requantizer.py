"""The requantizer: int32 to int8, one feature word a cycle."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.numerics import Rounding
from pliant_hw.rounding import ROUNDING_LATENCY, RoundingShifter

SHIFT_BITS = 6
REQUANTIZER_LATENCY = 4 + ROUNDING_LATENCY + 1
"""Bias; product (2); double rounding; shift; clip."""


def parameter_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the fields of one per-channel record that the hardware keeps."""
    return data.StructLayout({
        "bias": signed(32),
        "multiplier": unsigned(config.multiplier_bits),
        "shift": unsigned(SHIFT_BITS),
    })


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


def stages(m: Module, valid: Value, latency: int) -> list[Value]:
    """Return `valid` after 0, 1, ... `latency` cycles: the enables of a pipeline's stages.

    A stage that only moves when a word is in it saves power, and simulators its evaluation.
    """
    taps = [valid]
    for stage in range(latency):
        later = Signal(name=f"valid_{stage}")
        m.d.sync += later.eq(taps[-1])
        taps.append(later)
    return taps


class RequantizerLane(wiring.Component):
    """One lane of the requantizer; the same latency, stages moved by `enable`."""

    parameters: Any
    enable: Signal
    value: Signal
    rounding: Signal
    zero_point: Signal
    clip_min: Signal
    clip_max: Signal
    result: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "enable": In(REQUANTIZER_LATENCY),
            "value": In(signed(32)),
            "parameters": In(parameter_layout(config)),
            "rounding": In(Rounding),
            "zero_point": In(signed(8)),
            "clip_min": In(signed(8)),
            "clip_max": In(signed(8)),
            "result": Out(signed(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._config.multiplier_bits
        product_shape = signed(32 + bits)
        m.submodules.shifter = shifter = RoundingShifter(
            width=product_shape.width, shift_bits=SHIFT_BITS)

        biased = Signal(signed(32), reset_less=True)
        multiplier = Signal(bits, reset_less=True)
        product = Signal(product_shape, reset_less=True)
        product_2 = Signal(product_shape, reset_less=True)
        shift = [Signal(SHIFT_BITS, name=f"shift_{stage}", reset_less=True) for stage in range(3)]
        with m.If(self.enable[0]):
            m.d.sync += [biased.eq(self.value + self.parameters.bias),
                         multiplier.eq(self.parameters.multiplier),
                         shift[0].eq(self.parameters.shift)]
        with m.If(self.enable[1]):
            m.d.sync += [product.eq(biased * multiplier), shift[1].eq(shift[0])]
        with m.If(self.enable[2]):
            m.d.sync += [product_2.eq(product), shift[2].eq(shift[1])]

        double = Signal()
        m.d.comb += double.eq(self.rounding == Rounding.GEMMLOWP)
        once = Signal(product_shape, reset_less=True)
        rest = Signal(SHIFT_BITS, reset_less=True)
        with m.If(self.enable[3]):
            m.d.sync += [
                once.eq(Mux(double, (product_2 + (1 << (bits - 1))) >> bits, product_2)),
                rest.eq(Mux(double, Mux(shift[2] > bits, shift[2] - bits, 0), shift[2])),
            ]
        m.d.comb += [shifter.value.eq(once), shifter.shift.eq(rest),
                     shifter.rounding.eq(self.rounding), shifter.enable.eq(self.enable[4:6])]
        result = Signal(signed(8), reset_less=True)
        m.d.comb += self.result.eq(result)
        with m.If(self.enable[6]):
            clip(m, shifter.result + self.zero_point, self.clip_min, self.clip_max, result)
        return m


def clip(m: Module, value: object, low: object, high: object, result: Signal) -> None:
    """Register `value` clamped to [low, high] in `result`."""
    wide = Signal(signed(12), name="unclipped")
    m.d.comb += wide.eq(value)
    m.d.sync += result.eq(Mux(wide < low, low, Mux(wide > high, high, wide)))


class Requantizer(wiring.Component):
    """Scales int32 values to int8, one word a cycle, latency REQUANTIZER_LATENCY (7).

    Implements :func:`pliant.spec.numerics.requantize` with the bias added first. `rounding`,
    `zero_point`, `clip_min` and `clip_max` hold still while a word is inside.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    valid : In, values : In   lanes x int32
    parameters : In   lanes x record, beside `values`
    rounding, zero_point, clip_min, clip_max : In
    out_valid : Out, results : Out   lanes x int8
    """

    values: Any
    parameters: Any
    results: Any
    valid: Signal
    rounding: Signal
    zero_point: Signal
    clip_min: Signal
    clip_max: Signal
    out_valid: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "valid": In(1),
            "values": In(data.ArrayLayout(signed(32), config.lanes)),
            "parameters": In(data.ArrayLayout(parameter_layout(config), config.lanes)),
            "rounding": In(Rounding),
            "zero_point": In(signed(8)),
            "clip_min": In(signed(8)),
            "clip_max": In(signed(8)),
            "out_valid": Out(1),
            "results": Out(data.ArrayLayout(signed(8), config.lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        enable = stages(m, self.valid, REQUANTIZER_LATENCY)
        m.d.comb += self.out_valid.eq(enable[-1])
        for index in range(self._config.lanes):
            m.submodules[f"lane_{index}"] = lane = RequantizerLane(config=self._config)
            m.d.comb += [
                lane.enable.eq(Cat(enable[:-1])),
                lane.value.eq(self.values[index]),
                lane.parameters.eq(self.parameters[index]),
                lane.rounding.eq(self.rounding),
                lane.zero_point.eq(self.zero_point),
                lane.clip_min.eq(self.clip_min),
                lane.clip_max.eq(self.clip_max),
                self.results[index].eq(lane.result),
            ]
        return m


class ResidualAdder(wiring.Component):
    """Adds a residual word to a requantized one, one word a cycle, latency ADDER_LATENCY (5).

    Implements :func:`pliant.spec.numerics.add`. With `enable` low a word passes unchanged, with the
    same latency. The control inputs hold still while a word is inside.

    Members
    -------
    valid : In, words, residuals : In   lanes x int8
    enable, multiplier, residual_multiplier, offset, shift, rounding, zero_point, clip_min,
    clip_max : In
    out_valid : Out, results : Out   lanes x int8
    """

    words: Any
    residuals: Any
    results: Any
    valid: Signal
    enable: Signal
    multiplier: Signal
    residual_multiplier: Signal
    offset: Signal
    shift: Signal
    rounding: Signal
    zero_point: Signal
    clip_min: Signal
    clip_max: Signal
    out_valid: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word = data.ArrayLayout(signed(8), config.lanes)
        super().__init__({
            "valid": In(1),
            "words": In(word),
            "residuals": In(word),
            "enable": In(1),
            "multiplier": In(signed(9)),
            "residual_multiplier": In(signed(9)),
            "offset": In(signed(20)),
            "shift": In(5),
            "rounding": In(Rounding),
            "zero_point": In(signed(8)),
            "clip_min": In(signed(8)),
            "clip_max": In(signed(8)),
            "out_valid": Out(1),
            "results": Out(word),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        enable = stages(m, self.valid, ADDER_LATENCY)
        m.d.comb += self.out_valid.eq(enable[-1])
        adding = [stage & self.enable for stage in enable]
        for index in range(self._config.lanes):
            m.submodules[f"shifter_{index}"] = shifter = RoundingShifter(width=21, shift_bits=5)
            products = [Signal(signed(17), name=f"product_{index}_{side}", reset_less=True)
                        for side in range(2)]
            total = Signal(signed(21), name=f"total_{index}", reset_less=True)
            summed = Signal(signed(8), name=f"sum_{index}", reset_less=True)
            with m.If(adding[0]):
                m.d.sync += [
                    products[0].eq(self.words[index] * self.multiplier),
                    products[1].eq(self.residuals[index] * self.residual_multiplier),
                ]
            with m.If(adding[1]):
                m.d.sync += total.eq(products[0] + products[1] + self.offset)
            m.d.comb += [shifter.value.eq(total), shifter.shift.eq(self.shift),
                         shifter.rounding.eq(self.rounding), shifter.enable.eq(Cat(adding[2:4]))]
            with m.If(adding[4]):
                clip(m, shifter.result + self.zero_point, self.clip_min, self.clip_max, summed)
            unchanged = delayed(m, self.words[index], ADDER_LATENCY, f"word_{index}",
                                reset_less=True)
            m.d.comb += self.results[index].eq(Mux(self.enable, summed, unchanged))
        return m


ADDER_LATENCY = 2 + ROUNDING_LATENCY + 1
