import numpy as np
import pytest

from pliant.spec.unfolding import Unfolding


@pytest.mark.parametrize("seed", range(30))
def test_every_channel_is_one_kernel_position_of_one_image_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, height, width = (int(n) for n in rng.integers(1, 9, 3))
    kernel, stride, dilation = ((int(y), int(x)) for y, x in rng.integers(1, 4, (3, 2)))
    top, left = (int(n) for n in rng.integers(0, 4, 2))
    rows, columns = (int(n) for n in rng.integers(1, 9, 2))
    fill = int(rng.integers(-128, 128))
    unfolding = Unfolding(shape=(channels, height, width), kernel=kernel, stride=stride,
                          dilation=dilation, before=(top, left), size=(rows, columns), fill=fill)
    image = rng.integers(-128, 128, (channels, height, width), np.int8)
    result = unfolding.apply(image)
    assert result.shape == unfolding.unfolded_shape
    assert result.dtype == np.int8
    for ky, kx, c, y, x in np.ndindex(*kernel, channels, rows, columns):
        row = y * stride[0] + ky * dilation[0] - top
        column = x * stride[1] + kx * dilation[1] - left
        inside = 0 <= row < height and 0 <= column < width
        expected = image[c, row, column] if inside else fill
        assert result[(ky * kernel[1] + kx) * channels + c, y, x] == expected
