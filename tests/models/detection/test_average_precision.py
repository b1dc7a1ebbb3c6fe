import numpy as np
import pytest

from pliant_models.detection.average_precision import (
    Detections,
    average_precision,
    mean_average_precision,
    overlaps,
)


def detections(*found: tuple[int, float, tuple[float, ...]]) -> Detections:
    return Detections(labels=np.array([label for label, _, _ in found], np.int64),
                      scores=np.array([score for _, score, _ in found], np.float64),
                      boxes=np.array([box for _, _, box in found], np.float64).reshape(-1, 4))


def objects(*boxes: tuple[float, ...]):
    return np.array(boxes, np.float64).reshape(-1, 4), np.zeros(len(boxes), np.int64)


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)
NOWHERE = (50, 50, 60, 60)


def score(found: list[Detections], real) -> float:
    boxes, labels = zip(*real, strict=True)
    return average_precision(found, list(boxes), list(labels), 0)


def test_overlap_is_intersection_over_union():
    boxes = np.array([A, (0, 0, 10, 5), (5, 5, 15, 15), NOWHERE, (10, 10, 0, 0)], np.float64)
    np.testing.assert_allclose(overlaps(np.array([A], np.float64), boxes),
                               [[1, 0.5, 25 / 175, 0, 0]])


def test_everything_found_and_nothing_else_is_1():
    found = [detections((0, 0.9, A), (0, 0.8, B)), detections((0, 0.7, C))]
    assert score(found, [objects(A, B), objects(C)]) == 1


def test_area_is_under_the_best_precision_at_higher_recall():
    # right, wrong, right, wrong, right of 4 objects: 1/4 * (1 + 2/3 + 3/5)
    found = [detections((0, 0.9, A), (0, 0.8, NOWHERE), (0, 0.7, B)),
             detections((0, 0.6, NOWHERE), (0, 0.5, C))]
    assert score(found, [objects(A, B), objects(C, A)]) == pytest.approx(
        (1 + 2 / 3 + 3 / 5) / 4)
    # wrong, right: precision 1/2 over the whole recall
    assert score([detections((0, 0.9, NOWHERE), (0, 0.8, A))], [objects(A)]) == 0.5
    # wrong, right, right: 2/3 at full recall lifts the 1/2 before it
    assert score([detections((0, 0.9, NOWHERE), (0, 0.8, A), (0, 0.7, B))],
                 [objects(A, B)]) == pytest.approx(2 / 3)


def test_scores_rank_over_all_images():
    found = [detections((0, 0.2, A)), detections((0, 0.9, NOWHERE))]
    assert score(found, [objects(A), objects(B)]) == 0.25


def test_an_object_is_found_once():
    assert score([detections((0, 0.9, A), (0, 0.8, A), (0, 0.7, B))],
                 [objects(A, B)]) == pytest.approx((1 + 2 / 3) / 2)


def test_half_an_overlap_is_enough_and_less_is_not():
    assert score([detections((0, 0.9, (0, 0, 10, 5)))], [objects(A)]) == 1
    assert score([detections((0, 0.9, (0, 0, 10, 4.9)))], [objects(A)]) == 0


def test_other_classes_do_not_count_and_classes_without_objects_are_left_out():
    boxes, _ = objects(A, B)
    labels = np.array([0, 2])
    found = [detections((0, 0.9, A), (1, 0.8, B), (2, 0.3, B), (1, 0.1, A))]
    assert [average_precision(found, [boxes], [labels], label) for label in (0, 2)] == [1, 1]
    assert np.isnan(average_precision(found, [boxes], [labels], 1))
    assert mean_average_precision(found, [boxes], [labels], 3) == 1
    assert mean_average_precision([detections()], [boxes], [labels], 3) == 0
