import numpy as np

from pliant_models.detection.decoding import OUTPUT_STRIDE, TOP, decode, decode_integers


def heads(classes=3, height=8, width=6):
    return np.full((classes, height, width), -np.inf), np.ones((2, height, width)), np.zeros(
        (2, height, width))


def test_boxes_follow_from_peak_size_and_shift():
    peaks, size, shift = heads()
    peaks[2, 5, 4] = 0.0
    size[:, 5, 4], shift[:, 5, 4] = (3, 2), (0.5, 0.25)
    found = decode(peaks, size, shift)
    assert found.labels.tolist() == [2]
    assert found.scores.tolist() == [0.5]
    expected = np.array([[4.5 - 1.5, 5.25 - 1, 4.5 + 1.5, 5.25 + 1]]) * OUTPUT_STRIDE
    np.testing.assert_allclose(found.boxes, expected)


def test_equal_neighbours_count_once_where_the_first_of_them_is():
    peaks, size, shift = heads()
    peaks[1, 2, 1:4] = peaks[1, 3, 2] = 1.0  # a plateau, its third pixel apart from its first
    peaks[1, 6, 1] = 1.0  # equal, but apart
    peaks[0, 2, 2] = 1.0  # of another class
    peaks[1, 4, 3] = 0.5  # a neighbour, but lower
    found = decode(peaks, size, shift)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 / OUTPUT_STRIDE
    objects = {(label, *map(float, centre)) for label, centre in zip(
        found.labels.tolist(), centres, strict=True)}
    assert objects == {(1, 1, 2), (1, 1, 6), (0, 2, 2), (1, 3, 4)}


def test_the_best_hundred_come_first():
    rng = np.random.default_rng(1)
    _, size, shift = heads(4)
    peaks = rng.normal(size=(4, 8, 6))
    found = decode(peaks, size, shift)
    assert len(found.labels) == TOP
    assert (np.diff(found.scores) <= 0).all()
    best = np.sort(peaks, axis=None)[::-1][:TOP]
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-best)))


def test_integers_are_scaled_and_minus_128_is_no_peak():
    outputs = [np.full((2, 2, 4, 4), -128, np.int8) for _ in range(3)]
    outputs[0][1, 0, 3, 2] = -16
    outputs[1][1, :, 3, 2] = (8, 12)
    outputs[2][1, :, 3, 2] = (32, 0)
    empty, found = decode_integers((2.0**-4, 2.0**-2, 2.0**-6), outputs)
    assert len(empty.labels) == 0
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(1.0)))
    np.testing.assert_allclose(found.boxes, [[6, 6, 14, 18]])
