"""The requantizer: int32 to int8, one feature word a cycle."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.numerics import Rounding
from pliant_hw.pipeline import clip, loaded, stages
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


class RequantizerLane(wiring.Component):
    """One lane of the requantizer; the same latency, stages moved by `enable`.

    The controls are those of the stage that they are used in.
    """

    parameters: Any
    enable: Signal
    value: Signal
    double_rounding: Signal
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
            "double_rounding": In(Rounding),
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
        m.d.comb += double.eq(self.double_rounding == Rounding.GEMMLOWP)
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


class Requantizer(wiring.Component):
    """Scales int32 values to int8, one word a cycle, latency REQUANTIZER_LATENCY (7).

    Implements :func:`pliant.spec.numerics.requantize` with the bias added first.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    valid : In, values : In   lanes x int32
    parameters : In   lanes x record, beside `values`
    rounding, zero_point, clip_min, clip_max : In   controls
    load : In   the controls are for words from the next cycle on; they hold until `loaded`
    loaded : Out   `load`, one cycle before the word after it comes out
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
    load: Signal
    loaded: Signal
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
            "load": In(1),
            "loaded": Out(1),
            "out_valid": Out(1),
            "results": Out(data.ArrayLayout(signed(8), config.lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        enable = stages(m, self.valid, REQUANTIZER_LATENCY)
        load = stages(m, self.load, REQUANTIZER_LATENCY, "load")
        m.d.comb += [self.out_valid.eq(enable[-1]), self.loaded.eq(load[-1])]
        double_rounding = loaded(m, load[3], self.rounding, "double_rounding")
        rounding = loaded(m, load[4], self.rounding, "rounding_loaded")
        zero_point, clip_min, clip_max = (
            loaded(m, load[6], value, f"{value.name}_loaded")
            for value in (self.zero_point, self.clip_min, self.clip_max))
        for index in range(self._config.lanes):
            m.submodules[f"lane_{index}"] = lane = RequantizerLane(config=self._config)
            m.d.comb += [
                lane.enable.eq(Cat(enable[:-1])),
                lane.value.eq(self.values[index]),
                lane.parameters.eq(self.parameters[index]),
                lane.double_rounding.eq(double_rounding),
                lane.rounding.eq(rounding),
                lane.zero_point.eq(zero_point),
                lane.clip_min.eq(clip_min),
                lane.clip_max.eq(clip_max),
                self.results[index].eq(lane.result),
            ]
        return m
