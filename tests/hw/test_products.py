"""How many multipliers take DSP slices: within what each board has for the core."""

from __future__ import annotations

import dataclasses

import pytest

from pliant.spec.config import PRESETS, Board
from pliant_hw.products import PATCH_TAPS, depthwise_slices, requantizer_slices


@pytest.mark.parametrize(("name", "taps"), [
    ("tiny", 4), ("pynq_z2", 1), ("ultra96", 2), ("kv260", 2)])
def test_depthwise_taps_take_the_slices_that_are_left(name: str, taps: int) -> None:
    config = PRESETS[name]
    assert depthwise_slices(config) == taps
    others = config.rows * config.cols // 2 + config.lanes * requantizer_slices(config)
    assert others + taps * config.lanes <= config.board.dsp_slices
    assert taps == PATCH_TAPS or others + (taps + 1) * config.lanes > config.board.dsp_slices


@pytest.mark.parametrize(("slices", "taps"), [(0, 0), (303, 0), (304, 1), (352, 4), (900, 4)])
def test_a_board_may_have_none_left_or_more_than_enough(slices: int, taps: int) -> None:
    config = dataclasses.replace(PRESETS["ultra96"], board=Board(dsp_slices=slices))
    assert depthwise_slices(config) == taps


@pytest.mark.parametrize(("bits", "slices"), [(8, 2), (16, 2), (31, 4)])
def test_wider_multipliers_take_more_slices(bits: int, slices: int) -> None:
    config = dataclasses.replace(PRESETS["tiny"], multiplier_bits=bits)
    assert requantizer_slices(config) == slices
