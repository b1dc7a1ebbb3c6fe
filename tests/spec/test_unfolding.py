import numpy as np
import pytest

from pliant.spec.unfolding import Unfolding


@pytest.mark.parametrize("seed", range(30))
def test_every_channel_is_one_kernel_column_of_one_image_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, height, width = (int(n) for n in rng.integers(1, 9, 3))
    kernel, stride, dilation = (int(n) for n in rng.integers(1, 4, 3))
    left, fill = int(rng.integers(0, 4)), int(rng.integers(-128, 128))
    columns = int(rng.integers(1, 9))
    unfolding = Unfolding(shape=(channels, height, width), kernel=kernel, stride=stride,
                          dilation=dilation, left=left, columns=columns, fill=fill)
    image = rng.integers(-128, 128, (channels, height, width), np.int8)
    result = unfolding.apply(image)
    assert result.shape == unfolding.unfolded_shape
    assert result.dtype == np.int8
    for k, c, y, x in np.ndindex(kernel, channels, height, columns):
        column = x * stride + k * dilation - left
        expected = image[c, y, column] if 0 <= column < width else fill
        assert result[k * channels + c, y, x] == expected
