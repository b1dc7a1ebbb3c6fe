import numpy as np
import pytest

from pliant.compiler.reference import evaluate
from pliant_models import digits
from pliant_models.export import export


@pytest.fixture(scope="module")
def golden():
    return digits.golden()


def test_brevitas_in_float64_equals_the_integer_graph_in_every_layer(golden):
    tensors = evaluate(golden.graph, golden.images)
    assert list(tensors) == list(golden.integers)
    assert len(tensors) == 10
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, golden.integers[name], err_msg=name)
        assert len(np.unique(value)) > 15, f"{name} hardly uses int8"


def test_shipped_weights_reach_97_percent_from_integers(golden):
    logits = evaluate(golden.graph, golden.images)[golden.graph.outputs[0]]
    assert digits.accuracy(logits, golden.labels) >= 0.97
    assert digits.WEIGHTS.stat().st_size < 200_000


def test_the_network_has_the_layers_that_the_demo_promises(golden):
    kinds = {type(node).__name__ for node in golden.graph.nodes}
    assert kinds == {"Convolution", "Add", "MaxPool", "AveragePool"}
    convolutions = [node for node in golden.graph.nodes if hasattr(node, "weight")]
    assert any(node.stride == (2, 2) for node in convolutions)
    assert any(node.padding.top for node in convolutions)


def test_split_is_stratified_disjoint_and_repeatable():
    train, test = digits.dataset()
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    assert np.bincount(test.labels).min() >= 34
    again = digits.dataset()[1]
    np.testing.assert_array_equal(test.images, again.images)
    assert test.images.dtype == np.int8
    assert (test.images.min(), test.images.max()) == (0, 16)
    np.testing.assert_array_equal(test.real().numpy() * 16, test.images)


@pytest.mark.slow
def test_training_recipe_reaches_97_percent():
    model, (_, test) = digits.train(), digits.dataset()
    graph = export(model, name="digits")
    logits = evaluate(graph, test.images)[graph.outputs[0]]
    assert digits.accuracy(logits, test.labels) >= 0.97
