"""Layouts: what is packed comes back, as a copy."""

import numpy as np
import pytest

from pliant.spec.config import PRESETS
from pliant.spec.memory import feature_tensor_bytes, pack_features, row_patches, unpack_features

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
