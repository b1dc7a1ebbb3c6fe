"""The back of the sampler: one word out of 2x2 neighbours."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant.spec.sampling import FRACTION_BITS, SAMPLE_SHIFT
from pliant_hw.displacer import NEIGHBOURS
from pliant_hw.pipeline import add_with_carry, clip, delayed, stages
from pliant_hw.products import lut_product

INTERPOLATOR_LATENCY = 11

SIDE_BITS = 8 + FRACTION_BITS
"""Signed; a value times 16, interpolated along one axis."""

TOTAL_BITS = 9 + 2 * FRACTION_BITS
"""Signed; a difference of two values times 256, interpolated along both axes."""

HALF_BITS = 4
"""The mask factor is multiplied in two halves: one product of all its bits is too deep."""


class Interpolator(wiring.Component):
    """Interpolates words between 2x2 neighbours, one a cycle, latency INTERPOLATOR_LATENCY (11).

    Implements :func:`pliant.spec.sampling.sample` for one position. Words that are not displaced
    pass beside it: the first neighbour, unchanged.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    valid : In, words : In   four neighbours, lanes x int8 each
    displaced, fraction_y, fraction_x, factor, zero_point : In   beside `words`
    word : Out   lanes x int8
    """

    valid: Signal
    words: Any
    displaced: Signal
    fraction_y: Signal
    fraction_x: Signal
    factor: Signal
    zero_point: Signal
    word: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word = data.ArrayLayout(signed(8), config.lanes)
        super().__init__({
            "valid": In(1),
            "words": In(data.ArrayLayout(word, NEIGHBOURS)),
            "displaced": In(1),
            "fraction_y": In(FRACTION_BITS),
            "fraction_x": In(FRACTION_BITS),
            "factor": In(8),
            "zero_point": In(signed(8)),
            "word": Out(word),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        enable = stages(m, self.valid & self.displaced, INTERPOLATOR_LATENCY, "displaced")

        def control(value: Signal, stage: int) -> Signal:
            return delayed(m, value, stage, value.name, reset_less=True)

        fraction_x, fraction_y = control(self.fraction_x, 2), control(self.fraction_y, 5)
        factor = control(self.factor, 7)
        early, late = control(self.zero_point, 4), control(self.zero_point, 10)
        plain = delayed(m, self.words[0].as_value(), INTERPOLATOR_LATENCY, "plain",
                        reset_less=True)
        for index in range(self._config.lanes):
            m.submodules[f"lane_{index}"] = lane = _Lane()
            m.d.comb += [
                *(lane.values[neighbour].eq(self.words[neighbour][index])
                  for neighbour in range(NEIGHBOURS)),
                lane.enable.eq(Cat(enable[:-1])),
                lane.fraction_x.eq(fraction_x), lane.fraction_y.eq(fraction_y),
                lane.factor.eq(factor), lane.zero_point.eq(early), lane.late_zero_point.eq(late),
                self.word[index].eq(Mux(enable[-1], lane.result,
                                        plain.word_select(index, 8).as_signed())),
            ]
        return m


class _Lane(wiring.Component):
    """One lane; a bit of `enable` for each stage, controls beside the stage that needs them."""

    values: Any
    enable: Signal
    fraction_x: Signal
    fraction_y: Signal
    factor: Signal
    zero_point: Signal
    late_zero_point: Signal
    result: Signal

    def __init__(self) -> None:
        super().__init__({
            "values": In(data.ArrayLayout(signed(8), NEIGHBOURS)),
            "enable": In(INTERPOLATOR_LATENCY),
            "fraction_x": In(FRACTION_BITS),
            "fraction_y": In(FRACTION_BITS),
            "factor": In(unsigned(8)),
            "zero_point": In(signed(8)),
            "late_zero_point": In(signed(8)),
            "result": Out(signed(8)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def register(stage: int, bits: int, value: Any, name: str) -> Signal:
            result = Signal(signed(bits), name=name, reset_less=True)
            with m.If(self.enable[stage]):
                m.d.sync += result.eq(value)
            return result

        values = [register(0, 8, value, f"value_{neighbour}")
                  for neighbour, value in enumerate(self.values)]
        sides = [self._between(m, register, 1, 8, values[2 * side], values[2 * side + 1],
                               self.fraction_x, f"side_{side}") for side in range(2)]
        # Stages 4 to 6; the zero point is taken off beside the second product.
        difference = register(4, SIDE_BITS + 1, sides[1] - sides[0], "difference")
        centred = register(
            4, SIDE_BITS + 1, sides[0] - (self.zero_point << FRACTION_BITS), "centred")
        part = register(5, TOTAL_BITS, lut_product(m, difference, self.fraction_y, "part_product"),
                        "part")
        kept = register(5, SIDE_BITS + 1, centred, "kept")
        total = register(6, TOTAL_BITS, (kept << FRACTION_BITS) + part, "total")
        # Stages 7 to 9: mask factor, rounding to even.
        halves = [register(7, TOTAL_BITS + HALF_BITS, lut_product(
            m, total, half, f"masked_{place}"), f"half_{place}")
            for place, half in enumerate((self.factor[:HALF_BITS], self.factor[HALF_BITS:]))]
        product = register(8, TOTAL_BITS + 8, halves[0] + (halves[1] << HALF_BITS), "product")
        below_half = Const((1 << SAMPLE_SHIFT - 1) - 1, signed(SAMPLE_SHIFT))
        bits = TOTAL_BITS + 8 - SAMPLE_SHIFT + 1
        rounded = register(9, bits, add_with_carry(
            product, below_half, product[SAMPLE_SHIFT]) >> SAMPLE_SHIFT, "rounded")
        with m.If(self.enable[10]):
            clip(m, rounded + self.late_zero_point, INT8_MIN, INT8_MAX, self.result)
        return m

    @staticmethod
    def _between(
        m: Module, register: Any, stage: int, bits: int, low: Value, high: Value, fraction: Value,
        name: str,
    ) -> Signal:
        """Return ``16*low + fraction*(high - low)``, three stages from `stage` on."""
        difference = register(stage, bits + 1, high - low, f"{name}_difference")
        kept = register(stage, bits, low, f"{name}_kept")
        part = register(stage + 1, bits + 1 + FRACTION_BITS,
                        lut_product(m, difference, fraction, f"{name}_product"), f"{name}_part")
        held = register(stage + 1, bits, kept, f"{name}_held")
        result: Signal = register(stage + 2, bits + FRACTION_BITS,
                                  (held << FRACTION_BITS) + part, name)
        return result
