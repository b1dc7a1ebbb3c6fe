"""The product of two weights at once, over all operands, and lanes of patches against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant_hw.products import PATCH_TAPS
from pliant_hw.reduction import PRODUCT_BITS, REDUCER_LATENCY, LaneReducer, pack
from pliant_sim.benches.simulate import simulate

INT8 = np.arange(INT8_MIN, INT8_MAX + 1)


def test_both_products_come_back_for_all_operands() -> None:
    first, second = INT8[:, None], INT8[None, :]
    factor = pack(first, second)
    assert factor.min() >= -1 << PRODUCT_BITS + 8
    assert factor.max() < 1 << PRODUCT_BITS + 8
    for value in INT8:
        product = factor * value
        low = product & ((1 << PRODUCT_BITS) - 1)
        negative = low >> (PRODUCT_BITS - 1)
        assert (low - (negative << PRODUCT_BITS) == first * value).all()
        assert ((product >> PRODUCT_BITS) + negative == second * value).all()


@pytest.mark.parametrize("slices", range(PATCH_TAPS + 1))
def test_two_outputs_share_a_patch(slices: int) -> None:
    """One patch a cycle, with the second output's weights one column further left."""
    random = np.random.default_rng(0)
    patches = 300
    words, taps = random.choice([-128, -1, 0, 1, 127, 77], (2, patches, PATCH_TAPS))
    reducer = LaneReducer(slices=slices, displaces=False)
    found = []

    async def main(ctx: Any) -> None:
        ctx.set(reducer.enable, (1 << len(reducer.enable)) - 1)
        ctx.set(reducer.present, (1 << PATCH_TAPS) - 1)
        ctx.set(reducer.inside, (1 << PATCH_TAPS) - 1)
        ctx.set(reducer.weights, {"own": 1, "even": 1, "odd": 1, "right": 1, "left": 1})
        for index in range(patches + REDUCER_LATENCY + 1):
            if index < patches:
                for tap in range(PATCH_TAPS):
                    ctx.set(reducer.words[tap], int(words[index, tap]))
                    ctx.set(reducer.taps[tap], int(taps[index, tap]))
            await ctx.tick()
            second = ctx.get(reducer.second) + ctx.get(reducer.carry)
            found.append((ctx.get(reducer.first), second))

    simulate(reducer, main)
    before = taps[:-1]
    shifted = np.stack([before[:, 1], taps[1:, 0], before[:, 3], taps[1:, 2]], axis=1)
    first, second = (np.array(side) for side in zip(*found, strict=True))
    assert (first[REDUCER_LATENCY - 1:][:patches] == (words * taps).sum(1)).all()
    assert (second[REDUCER_LATENCY + 1:][:patches - 1] == (words[1:] * shifted).sum(1)).all()


@pytest.mark.parametrize("slices", range(PATCH_TAPS + 1))
def test_the_products_of_a_displaced_patch_stay_apart(slices: int) -> None:
    """One patch a cycle, displaced ones among such of one sum."""
    random = np.random.default_rng(0)
    patches = 300
    words, taps = random.choice([-128, -1, 0, 1, 127, 77], (2, patches, PATCH_TAPS))
    displaced = random.integers(2, size=patches)
    reducer = LaneReducer(slices=slices, displaces=True)
    found = []

    async def main(ctx: Any) -> None:
        ctx.set(reducer.enable, (1 << len(reducer.enable)) - 1)
        ctx.set(reducer.present, (1 << PATCH_TAPS) - 1)
        ctx.set(reducer.inside, (1 << PATCH_TAPS) - 1)
        for index in range(patches + REDUCER_LATENCY + 1):
            late = index - (REDUCER_LATENCY - 1)
            if 0 <= late < patches:
                ctx.set(reducer.displaced, int(displaced[late]))
            if index < patches:
                apart = int(displaced[index])
                ctx.set(reducer.weights, {"own": 1, "even": 1, "odd": 1 - apart, "alone": apart})
                for tap in range(PATCH_TAPS):
                    ctx.set(reducer.words[tap], int(words[index, tap]))
                    ctx.set(reducer.taps[tap], int(taps[index, tap]))
            await ctx.tick()
            second = ctx.get(reducer.second) + ctx.get(reducer.carry)
            found.append((ctx.get(reducer.first), second, ctx.get(reducer.third),
                          ctx.get(reducer.fourth)))

    simulate(reducer, main)
    first, second, third, fourth = (np.array(sums) for sums in zip(*found, strict=True))
    products = words * taps
    arrived = slice(REDUCER_LATENCY - 1, REDUCER_LATENCY - 1 + patches)
    apart = displaced > 0
    assert (first[arrived] == np.where(apart, products[:, 0], products.sum(1))).all()
    assert (second[REDUCER_LATENCY:][:patches] == np.where(apart, products[:, 1], 0)).all()
    assert (third[arrived][apart] == products[apart, 2]).all()
    assert (fourth[arrived][apart] == products[apart, 3]).all()
