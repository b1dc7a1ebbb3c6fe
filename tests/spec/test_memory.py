"""Layouts: what is packed comes back, as a copy."""

import numpy as np
import pytest

from pliant.spec.config import PRESETS
from pliant.spec.memory import (
    aligned_rows,
    bank_of,
    feature_tensor_bytes,
    fit_narrow,
    narrow_rows,
    pack_features,
    pack_weights,
    pass_words,
    row_patches,
    unpack_features,
)

SEED = 3
SHAPES = [(1, 1, 1), (10, 1, 1), (64, 1, 1), (16, 3, 5), (33, 4, 7), (128, 2, 2)]


@pytest.mark.parametrize("config", PRESETS.values(), ids=lambda config: config.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_features_come_back_as_they_were_packed(config, shape):
    tensor = np.random.default_rng(SEED).integers(-128, 128, shape).astype(np.int8)
    data = pack_features(config, tensor)
    assert data.size == feature_tensor_bytes(config, shape[1], shape[2], shape[0])
    assert np.array_equal(unpack_features(config, data, shape), tensor)


@pytest.mark.parametrize("config", PRESETS.values(), ids=lambda config: config.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_unpacked_features_share_no_memory_with_the_data(config, shape):
    data = pack_features(config, np.zeros(shape, np.int8))
    assert not np.shares_memory(unpack_features(config, data, shape), data)


WEIGHT_SHAPES = [(1, 1, 1, 1), (10, 5, 3, 3), (64, 33, 1, 2)]


@pytest.mark.parametrize("config", PRESETS.values(), ids=lambda config: config.name)
@pytest.mark.parametrize("shape", WEIGHT_SHAPES)
def test_narrow_weights_are_the_same_rows_in_half_the_words(config, shape):
    weights = np.random.default_rng(SEED).integers(-7, 8, shape, np.int8)
    plain, narrow = (pack_weights(config, weights, narrow=narrow) for narrow in (False, True))
    assert plain.shape[-2:] == (pass_words(config, narrow=False), config.cols)
    assert narrow.shape == (*plain.shape[:-2], pass_words(config, narrow=True), config.cols)
    assert narrow.nbytes * 2 == plain.nbytes
    rows = narrow_rows(narrow.reshape(-1, config.cols))
    np.testing.assert_array_equal(rows, plain.reshape(-1, config.cols))


@pytest.mark.parametrize("config", PRESETS.values(), ids=lambda config: config.name)
def test_bytes_of_narrow_weights_are_where_the_instruction_set_says(config):
    weights = np.random.default_rng(SEED).integers(-7, 8, (20, 37, 2, 3), np.int8)
    packed = pack_weights(config, weights, narrow=True)
    for out, inner, y, x in np.ndindex(*weights.shape):
        (tile, column), (group, row) = divmod(out, config.cols), divmod(inner, config.rows)
        byte = int(packed[tile, group, y, x, row // 2, column])
        assert byte >> 4 * (row % 2) & 15 == weights[out, inner, y, x] & 15


def test_every_int4_is_extended_from_both_halves():
    low, high = np.meshgrid(np.arange(-8, 8), np.arange(-8, 8))
    words = (low & 15 | high << 4).astype(np.int8).reshape(-1, 4)
    expected = np.stack([low.reshape(-1, 4), high.reshape(-1, 4)], axis=1).reshape(-1, 4)
    np.testing.assert_array_equal(narrow_rows(words), expected)


@pytest.mark.parametrize(("weight", "fits"), [(-8, False), (-7, True), (7, True), (8, False)])
def test_only_weights_of_narrow_range_are_packed_narrow(weight, fits):
    weights = np.full((1, 2, 1, 1), 3, np.int8)
    weights[0, 1] = weight
    assert fit_narrow(weights) == fits
    if not fits:
        with pytest.raises(ValueError, match="must be -7 to 7"):
            pack_weights(PRESETS["tiny"], weights, narrow=True)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "outputs", "patches"), [
    ((3, 3), 1, (1, 1), 8, 4 * 4),
    ((3, 3), 1, (1, 1), 7, 3 * 4 + 4),  # the odd last one has its own four
    ((3, 3), 2, (1, 1), 7, 3 * 6 + 4),
    ((3, 3), 3, (1, 1), 8, 8 * 4),
    ((3, 3), 1, (2, 1), 8, 4 * 6),
    ((3, 3), 1, (1, 2), 8, 8 * 6),
    ((2, 2), 1, (1, 1), 8, 8),  # a word a cycle is all that the unit can finish
    ((3, 1), 1, (1, 1), 8, 4 * 2),
    ((1, 5), 2, (1, 1), 5, 2 * 4 + 3),
])
def test_neighbouring_depthwise_windows_share_patches(kernel, stride, dilation, outputs, patches):
    assert row_patches(kernel, stride, dilation, outputs, depthwise=True) == patches


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3), (2, 2), (3, 3), (4, 6), (7, 7)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_sharing_patches_never_takes_longer(kernel, stride):
    for outputs in range(1, 9):
        shared, alone = (row_patches(kernel, stride, (1, 1), outputs, depthwise=depthwise)
                         for depthwise in (True, False))
        assert outputs <= shared <= alone


@pytest.mark.parametrize("row_stride", range(1, 9))
def test_a_region_may_begin_inside_another_every_so_many_rows(row_stride):
    def equal(rows):
        later = 5 + rows // 2 * row_stride
        return all(bank_of(later, y, x) == bank_of(5, rows + y, x)
                   for y in range(2) for x in range(2))

    rows = aligned_rows(row_stride)
    assert equal(rows)
    assert not any(equal(fewer) for fewer in range(2, rows, 2))
