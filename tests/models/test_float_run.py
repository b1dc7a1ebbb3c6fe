import pytest
import torch

from pliant_models import networks
from pliant_models.float_run import float_run


@pytest.mark.parametrize(("name", "classes"), [("digits", 10), ("mobilenetv2", 1000)])
def test_a_run_gives_the_logits_of_one_image_without_gradients(name, classes):
    logits = float_run(name)()
    assert logits.shape == (1, classes)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad


def test_a_detector_yields_its_heads_for_one_image():
    heatmap, size, shift = float_run("codenet_a")()
    assert [value.shape[1:] for value in (heatmap, size, shift)] == [
        (20, 64, 64), (2, 64, 64), (2, 64, 64)]


def test_the_model_is_in_evaluation_mode():
    run = float_run("mobilenetv2")
    assert torch.equal(run(), run())  # batch norm and dropout would change it


def test_other_names_are_refused():
    assert "alexnet" not in networks.NETWORKS
    with pytest.raises(KeyError, match="alexnet"):
        float_run("alexnet")
