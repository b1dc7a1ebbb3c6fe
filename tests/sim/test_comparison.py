"""The comparison of levels finds every way in which they can differ."""

import numpy as np
import pytest

from pliant_sim.comparison import compare, merge

SEED = 7


@pytest.fixture
def tensors():
    random = np.random.default_rng(SEED)
    return {name: random.integers(-128, 128, (5, channels, 4, 3)).astype(np.int8)
            for name, channels in (("conv", 6), ("pool", 2))}


def copies(tensors):
    return {name: value.copy() for name, value in tensors.items()}


def test_equal_tensors_are_equal_and_counted(tensors):
    result = compare("rtl", tensors, copies(tensors), ("conv", "pool"))
    assert result.equal
    assert (result.images, result.tensors, result.values) == (5, 2, 5 * 8 * 12)


@pytest.mark.parametrize("place", [(0, 0, 0, 0), (4, 5, 3, 2), (2, 3, 1, 1)])
def test_one_wrong_value_is_found_and_located(tensors, place):
    found = copies(tensors)
    found["conv"][place] ^= 1
    result = compare("rtl", tensors, found, ("conv", "pool"))
    (difference,) = result.differences
    assert not result.equal
    assert (difference.level, difference.tensor, difference.differing) == ("rtl", "conv", 1)
    assert str(place) in difference.detail
    assert str(found["conv"][place]) in str(difference)


def test_all_wrong_values_are_counted(tensors):
    found = copies(tensors)
    found["pool"] = ~found["pool"]
    (difference,) = compare("simulator", tensors, found, tensors).differences
    assert difference.differing == difference.values == tensors["pool"].size


def test_missing_tensor_differs_in_every_value(tensors):
    found = {"pool": tensors["pool"]}
    (difference,) = compare("rtl", tensors, found, ("conv", "pool")).differences
    assert difference.differing == tensors["conv"].size
    assert "missing" in str(difference)


@pytest.mark.parametrize("change", [
    lambda value: value.astype(np.int16),
    lambda value: value[:, :-1],
    lambda value: value.transpose(0, 1, 3, 2),
])
def test_other_types_and_shapes_differ_even_if_values_agree(tensors, change):
    found = {"conv": change(tensors["conv"]), "pool": tensors["pool"]}
    (difference,) = compare("rtl", tensors, found, ("conv", "pool")).differences
    assert difference.tensor == "conv"
    assert difference.differing == tensors["conv"].size


def test_a_level_with_fewer_images_is_compared_with_the_first(tensors):
    found = {name: value[:2] for name, value in copies(tensors).items()}
    result = compare("rtl", tensors, found, tensors)
    assert result.equal
    assert result.images == 2
    shifted = {name: value[1:3] for name, value in tensors.items()}
    assert not compare("rtl", tensors, shifted, tensors).equal


def test_comparing_nothing_is_not_equality(tensors):
    assert not compare("rtl", tensors, tensors, ()).equal
    empty = {name: value[:0] for name, value in tensors.items()}
    assert not compare("rtl", tensors, empty, tensors).equal


def test_merged_comparisons_keep_every_difference_and_count(tensors):
    found = copies(tensors)
    found["conv"][0, 0, 0, 0] ^= 1
    good = compare("rtl", tensors, tensors, ("pool",))
    bad = compare("rtl", tensors, found, ("conv",))
    both = merge("rtl", [good, bad])
    assert both.differences == bad.differences
    assert both.values == good.values + bad.values
    assert not both.equal


def test_a_reference_without_the_tensor_is_an_error(tensors):
    with pytest.raises(KeyError):
        compare("rtl", tensors, tensors, ("other",))
