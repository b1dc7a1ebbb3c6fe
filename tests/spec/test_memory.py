"""Layouts: what is packed comes back, as a copy."""

import numpy as np
import pytest

from pliant.spec.config import PRESETS
from pliant.spec.memory import feature_tensor_bytes, pack_features, unpack_features

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
