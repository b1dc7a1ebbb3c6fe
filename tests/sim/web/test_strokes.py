import numpy as np
import pytest

from pliant_sim.web.strokes import CANVAS, DrawingError, digit_image, parse


def test_a_drawing_has_its_size():
    assert parse(bytes(CANVAS * CANVAS)).shape == (CANVAS, CANVAS)
    with pytest.raises(DrawingError, match="16384 bytes of grey values, found 7"):
        parse(bytes(7))


def test_nothing_drawn_is_refused():
    with pytest.raises(DrawingError, match="nothing is drawn"):
        digit_image(np.full((CANVAS, CANVAS), 127, np.uint8))


def test_place_and_size_do_not_matter():
    small, large = (np.zeros((CANVAS, CANVAS), np.uint8) for _ in range(2))
    shape = np.zeros((8, 8), np.uint8)
    shape[0], shape[:, 6:], shape[5, 1:3] = 255, 255, 255
    small[3:35, 70:102] = shape.repeat(4, axis=0).repeat(4, axis=1)
    large[40:104, 9:73] = shape.repeat(8, axis=0).repeat(8, axis=1)
    assert (digit_image(small) == digit_image(large)).all()
    assert (digit_image(small)[0] == 16 * (shape > 0)).all()


def test_a_narrow_stroke_keeps_its_proportions_in_the_middle():
    drawing = np.zeros((CANVAS, CANVAS), np.uint8)
    drawing[10:110, 20:45] = 255  # four times as high as wide
    image = digit_image(drawing)[0]
    assert (image[:, 3:5] == 16).all()
    assert not image[:, :3].any()
    assert not image[:, 5:].any()


def test_grey_blocks_are_counted():
    drawing = np.zeros((CANVAS, CANVAS), np.uint8)
    drawing[:32, :32] = 255
    drawing[8:12, 4:8] = 0
    drawing[8:10, 8:12] = 0
    image = digit_image(drawing)[0]
    assert image[2, 1] == 0
    assert image[2, 2] == 8
    assert image.sum() == 16 * 64 - 16 - 8
