import math

import numpy as np
import torch

from pliant_models.detection.decoding import OUTPUT_STRIDE, decode
from pliant_models.detection.losses import LEAST_OVERLAP, focal_loss, loss, radius, targets

BOXES = [np.array([[8.0, 16.0, 40.0, 44.0], [60.0, 60.0, 126.0, 90.0]]), np.empty((0, 4)),
         np.array([[1.0, 2.0, 21.0, 33.0]])]
LABELS = [np.array([3, 0]), np.empty(0, np.int64), np.array([3])]


def wanted():
    return targets(BOXES, LABELS, classes=5, size=128)


def ideal(size=32):
    """Return what the heads are to yield, as logits."""
    goal = wanted()
    logits = torch.logit(goal.heatmap, eps=1e-6)
    extent, shift = torch.zeros(3, 2, size, size), torch.zeros(3, 2, size, size)
    images, rows, columns = goal.places
    extent[images, :, rows, columns], shift[images, :, rows, columns] = goal.size, goal.shift
    return logits, extent, shift


def test_targets_decode_to_the_objects():
    logits, extent, shift = ideal()
    for image, (boxes, labels) in enumerate(zip(BOXES, LABELS, strict=True)):
        peaks = logits[image].double().numpy().copy()
        peaks[wanted().heatmap[image].numpy() < 1] = -np.inf
        found = decode(peaks, extent[image].double().numpy(), shift[image].double().numpy())
        order = np.argsort(labels, kind="stable")
        np.testing.assert_array_equal(np.sort(found.labels), labels[order])
        by_label = found.boxes[np.argsort(found.labels, kind="stable")]
        np.testing.assert_allclose(by_label, boxes[order], atol=1e-4)


def test_one_peak_for_each_object_at_its_centre():
    heatmap = wanted().heatmap
    assert (heatmap == 1).sum() == 3
    centre = BOXES[0][0].reshape(2, 2).mean(0) / OUTPUT_STRIDE
    assert heatmap[0, 3, int(centre[1]), int(centre[0])] == 1
    assert heatmap[1].max() == 0


def test_boxes_whose_corners_move_by_the_radius_overlap_enough():
    for width, height in ((4, 4), (10, 3), (6, 14), (1, 1)):
        reach = radius(width, height)
        moved = (width - reach) * (height - reach)
        union = 2 * width * height - moved
        shrunk = (width - 2 * reach) * (height - 2 * reach) / (width * height)
        grown = width * height / ((width + 2 * reach) * (height + 2 * reach))
        found = [moved / union, shrunk, grown]
        assert min(found) >= LEAST_OVERLAP - 1e-9
        assert min(found) < LEAST_OVERLAP + 1e-9


def test_focal_loss_is_as_published():
    heatmap = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    probability = torch.tensor([0.3, 0.6, 0.2])
    expected = -((0.7**2 * math.log(0.3)) + 0.5**4 * 0.6**2 * math.log(0.4)
                 + 0.2**2 * math.log(0.8))
    found = focal_loss(torch.logit(probability).reshape(1, 1, 1, 3), heatmap)
    assert math.isclose(found.item(), expected, rel_tol=1e-5)


def test_loss_is_least_at_the_targets_and_each_head_counts():
    heads = ideal()
    least = loss(*heads, wanted())
    assert least < 0.1
    for index in range(3):
        worse = [value + (5 if other == index else 0) for other, value in enumerate(heads)]
        assert loss(*worse, wanted()) > least + 0.5


def test_images_without_objects_give_a_finite_loss():
    goal = targets([np.empty((0, 4))], [np.empty(0, np.int64)], classes=5, size=128)
    value = loss(torch.zeros(1, 5, 32, 32), torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32),
                 goal)
    assert torch.isfinite(value)
