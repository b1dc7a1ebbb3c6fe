import numpy as np

from pliant_models.detection.average_precision import overlaps
from pliant_models.detection.scenes import MAX_DIGITS, MAX_HEIGHT, MIN_HEIGHT, SIZE, scenes


def test_scenes_are_the_same_for_a_seed_and_others_for_another():
    first, again, other = scenes(3, 4), scenes(3, 4), scenes(4, 4)
    np.testing.assert_array_equal(first.images, again.images)
    for box, same in zip(first.boxes, again.boxes, strict=True):
        np.testing.assert_array_equal(box, same)
    assert (first.images != other.images).any()
    assert (first.images != scenes(3, 4, held_out=False).images).any()


def test_images_are_pixels_less_128():
    found = scenes(1, 6)
    assert found.images.dtype == np.int8
    assert found.images.shape == (6, 3, SIZE, SIZE)
    np.testing.assert_array_equal(found.pixels().transpose(0, 3, 1, 2).astype(int) - 128,
                                  found.images)
    np.testing.assert_array_equal(found.real().numpy() * 128, found.images)


def test_boxes_are_inside_apart_and_of_the_stated_sizes():
    found = scenes(2, 60)
    assert len(np.unique(np.concatenate(found.labels))) == 10
    assert {len(labels) for labels in found.labels} == set(range(1, MAX_DIGITS + 1))
    for boxes, labels in zip(found.boxes, found.labels, strict=True):
        assert boxes.shape == (len(labels), 4)
        assert (boxes >= 0).all()
        assert (boxes <= SIZE).all()
        heights = boxes[:, 3] - boxes[:, 1]
        assert (heights >= MIN_HEIGHT).all()
        assert (heights <= MAX_HEIGHT).all()
        apart = overlaps(boxes, boxes)
        np.testing.assert_array_equal(apart, np.eye(len(boxes)))


def test_small_scenes_have_one_digit_each():
    found = scenes(3, 20, size=64, most=1)
    assert found.images.shape == (20, 3, 64, 64)
    assert all(len(labels) == 1 for labels in found.labels)
    boxes = np.concatenate(found.boxes)
    assert boxes.max() <= 64
    assert boxes.min() >= 0


def test_digits_stand_out_of_what_is_around_them():
    found = scenes(5, 30)
    for image, boxes in zip(found.pixels().astype(float), found.boxes, strict=True):
        for left, top, right, bottom in boxes.astype(int):
            inside = image[top:bottom, left:right].mean(axis=2)
            assert np.percentile(inside, 95) > image.mean() + 25
