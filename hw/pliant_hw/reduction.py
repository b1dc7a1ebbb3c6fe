"""Reduces one lane of a patch: a maximum, or sums of products for one, two or four outputs."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.numerics import INT8_MIN
from pliant_hw.pipeline import add_with_carry
from pliant_hw.products import PATCH_TAPS, lut_product

PRODUCT_BITS = 16
"""Signed; a product of two int8."""

REDUCER_LATENCY = 5
"""Operands; packed weights; products; pairs of taps; their sum."""

WEIGHTS = data.StructLayout({
    "own": unsigned(1),
    "ones": unsigned(1),
    "even": unsigned(1),
    "odd": unsigned(1),
    "same": unsigned(1),
    "right": unsigned(1),
    "left": unsigned(1),
    "alone": unsigned(1),
})
"""Where a patch's weights come from; see :func:`weights_of`.

`own`: its tap word, which is kept for the next patch. For the first output, `ones`: 1 for each tap
present; `even`, `odd`: the tap's own weight, for taps of the left and of the right column. For the
second one, of the tap word before, `same`: the tap's weight; `right`: for left taps, the one to the
right; of this tap word, `left`: for right taps, the one to the left; `alone`: for right taps, their
own.
"""


def weights_of(patch: Any, depthwise: Value, stride_two: Value) -> dict[str, Value]:
    """Return WEIGHTS for a patch (see `patch_layout`); its taps weigh one unless `depthwise`.

    A pair's second output has the first one's weights, `stride_two` or one column further left. Of
    a displaced patch each product is of another output: two are formed with the weights of the
    first output, two with those of the second, so that no two need be told apart in one sum.
    """
    second = depthwise & patch.pair
    before = second & patch.previous
    return {
        "own": patch.own,
        "ones": ~depthwise,
        "even": depthwise & patch.own,
        "odd": depthwise & patch.own & ~patch.displaced,
        "same": before & stride_two,
        "right": before & ~stride_two,
        "left": second & patch.own & ~stride_two,
        "alone": patch.displaced,
    }


def pack(first: Any, second: Any) -> Any:
    """Return two int8 weights as one factor of 25 bits.

    Times an int8 ``a`` it is ``second*a * 2**PRODUCT_BITS + first*a``. The lower product is exact
    in the low PRODUCT_BITS, signed; where it is negative, it has borrowed one from the upper one,
    which therefore is what stands above plus the lower one's sign.
    """
    return (second << PRODUCT_BITS) + first


Products = tuple[Value, Value, Value]
"""For the first output, for the second one, and what the latter still lacks."""


class LaneReducer(wiring.Component):
    """Reduces a lane of one patch a cycle; latency REDUCER_LATENCY, the second output one more.

    A tap in a DSP slice multiplies by the weights of both outputs at once (see :func:`pack`), with
    the registers around it that a slice contains; one in look-up tables has two products.

    Parameters
    ----------
    slices : int
        Taps in DSP slices, the first ones: 0 to PATCH_TAPS.
    displaces : bool
        Patches may be displaced: their products are those of four outputs.

    Members
    -------
    enable : In   a bit for each stage, high where a patch moves on
    words : In, taps : In   int8, one of each for every tap; must hold with `enable[0]`
    present, inside : In   see patch_layout; beside `words`
    pad_value : In, weights : In   beside `words`
    maximum : In   beside the last stage: the maximum is wanted
    first : Out   sum or maximum of the patch for the (first) output
    second : Out, carry : Out   sum for the second output, less `carry`; one cycle after `first`

    If it displaces:

    displaced : In   beside `maximum`: `first` and `second` are the products of taps 0 and 1
    third, fourth : Out   those of taps 2 and 3, beside `first`; undefined for other patches
    """

    words: Any
    taps: Any
    weights: Any
    enable: Signal
    present: Signal
    inside: Signal
    pad_value: Signal
    maximum: Signal
    first: Signal
    second: Signal
    carry: Signal
    displaced: Signal
    third: Signal
    fourth: Signal

    def __init__(self, *, slices: int, displaces: bool) -> None:
        self._slices = slices
        self._displaces = displaces
        tap = data.ArrayLayout(signed(8), PATCH_TAPS)
        product, total = signed(PRODUCT_BITS), signed(PRODUCT_BITS + 2)
        super().__init__({
            "enable": In(REDUCER_LATENCY + 1),
            "words": In(tap),
            "taps": In(tap),
            "present": In(PATCH_TAPS),
            "inside": In(PATCH_TAPS),
            "pad_value": In(signed(8)),
            "weights": In(WEIGHTS),
            "maximum": In(1),
            "first": Out(total),
            "second": Out(total),
            "carry": Out(1),
            **({"displaced": In(1), "third": Out(product), "fourth": Out(product)}
               if displaces else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weights = self.weights
        seconds = self._second_weights(m)
        features, products = [], []
        for tap in range(PATCH_TAPS):
            feature = self._operand(f"feature_{tap}")
            first, second = (self._operand(f"{side}_{tap}") for side in ("first", "second"))
            inside = Mux(self.inside[tap], self.words[tap], self.pad_value)
            with m.If(self.enable[0]):
                m.d.sync += [
                    feature.eq(Mux(self.present[tap], inside, INT8_MIN)),
                    first.eq(_where(weights.odd if tap & 1 else weights.even, self.taps[tap])
                             | (weights.ones & self.present[tap])),
                    second.eq(seconds[tap]),
                ]
            multiplied = self._operand(f"multiplied_{tap}")
            with m.If(self.enable[1]):
                m.d.sync += multiplied.eq(feature)
            multiply = self._packed if tap < self._slices else self._separate
            features.append(multiplied)
            products.append(multiply(m, tap, multiplied, first, second))
        self._add(m, products, self._largest(m, features))
        return m

    def _packed(
        self, m: Module, tap: int, feature: Signal, first: Signal, second: Signal
    ) -> Products:
        """Multiply in a DSP slice."""
        factor = Signal(signed(PRODUCT_BITS + 9), name=f"factor_{tap}", reset_less=True)
        product = Signal(signed(2 * PRODUCT_BITS + 1), name=f"product_{tap}", reset_less=True)
        with m.If(self.enable[1]):
            m.d.sync += factor.eq(pack(first, second))
        with m.If(self.enable[2]):
            m.d.sync += product.eq(factor * feature)
        return (product[:PRODUCT_BITS].as_signed(), product[PRODUCT_BITS:].as_signed(),
                product[PRODUCT_BITS - 1])

    def _separate(
        self, m: Module, tap: int, feature: Signal, first: Signal, second: Signal
    ) -> Products:
        """Multiply in look-up tables."""
        products: list[Value] = []
        for side, weight in (("first", first), ("second", second)):
            held = self._operand(f"{side}_weight_{tap}")
            product = Signal(signed(PRODUCT_BITS), name=f"{side}_product_{tap}", reset_less=True)
            multiple = lut_product(m, feature, held, f"{side}_multiple_{tap}")
            with m.If(self.enable[1]):
                m.d.sync += held.eq(weight)
            with m.If(self.enable[2]):
                m.d.sync += product.eq(multiple)
            products.append(product)
        return products[0], products[1], Const(0)

    def _operand(self, name: str) -> Signal:
        return Signal(signed(8), name=name, reset_less=True)

    def _second_weights(self, m: Module) -> list[Value]:
        """Return the weights for the second output."""
        weights = self.weights
        held: Any = Signal(self.taps.shape(), reset_less=True)
        with m.If(self.enable[0] & weights.own):
            m.d.sync += held.eq(self.taps)
        return [
            _where(weights.same, held[tap]) | (
                _where(weights.left, self.taps[tap - 1]) | (
                    _where(weights.alone, self.taps[tap]) if self._displaces else 0)
                if tap & 1 else _where(weights.right, held[tap + 1]))
            for tap in range(PATCH_TAPS)
        ]

    def _largest(self, m: Module, features: list[Signal]) -> Signal:
        """Return the maximum of the taps, beside the pairs of products."""
        upper, lower, largest = (self._operand(name) for name in ("upper", "lower", "largest"))
        with m.If(self.enable[2]):
            m.d.sync += [_larger(upper, *features[:2]), _larger(lower, *features[2:])]
        with m.If(self.enable[3]):
            m.d.sync += _larger(largest, upper, lower)
        return largest

    def _add(self, m: Module, products: list[Products], largest: Signal) -> None:
        low, high, borrowed = zip(*products, strict=True)
        half = signed(PRODUCT_BITS + 1)
        firsts, seconds = (
            [Signal(half, name=f"{side}_half_{index}", reset_less=True) for index in range(2)]
            for side in ("first", "second"))
        owed = Signal(2, reset_less=True)
        second = Signal.like(self.second, name="second_sum", reset_less=True)
        carry = Signal(reset_less=True)
        with m.If(self.enable[3]):
            for index in range(2):
                a, b = 2 * index, 2 * index + 1
                m.d.sync += [
                    firsts[index].eq(low[a] + low[b]),
                    seconds[index].eq(add_with_carry(high[a], high[b], borrowed[a])),
                ]
            m.d.sync += owed.eq(Cat(borrowed[1], borrowed[3]))
        # Of displaced patches, of which a product is either the first or the second of its tap, no
        # half is of two outputs.
        others: list[Value] = [firsts[1], seconds[1]]
        if self._displaces:
            others = [Mux(self.displaced, 0, other) for other in others]
        with m.If(self.enable[4]):
            m.d.sync += [
                self.first.eq(Mux(self.maximum, largest, firsts[0] + others[0])),
                second.eq(add_with_carry(seconds[0], others[1], owed[0])), carry.eq(owed[1]),
            ]
            if self._displaces:
                m.d.sync += [self.third.eq(firsts[1]), self.fourth.eq(seconds[1])]
        with m.If(self.enable[5]):
            m.d.sync += [self.second.eq(second), self.carry.eq(carry)]


def _where(condition: Value, value: Value) -> Value:
    """Return `value`, signed, or 0: one of several that are combined by an or."""
    return (value.as_unsigned() & condition.replicate(len(value))).as_signed()


def _larger(result: Signal, a: Value, b: Value) -> Any:
    return result.eq(Mux(a > b, a, b))
