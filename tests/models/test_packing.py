import numpy as np
import pytest
import torch
from torch import nn

from pliant_models import packing
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize


def quantized(channels: int = 5):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, 7, 1),
                            nn.Conv2d(7, 7, 3, groups=7))
    with torch.no_grad():
        network[2].weight[0] = 0  # dead channels: their scale is the smallest there is
        network[2].weight[1] *= 1e-6
        network[2].weight[2] *= 0.7 * 2.0**-16 * 5
    model = quantize(network, torch.zeros(1, 3, 8, 8), layer_bits={"2": 4, "3": 4})
    calibrate(model, [torch.randn(4, 3, 8, 8)])
    return model


def test_models_are_restored_to_the_same_integers(tmp_path):
    model, restored = quantized(), quantized()
    for value in restored.parameters():
        value.data.add_(0.3)
    packing.save(model, tmp_path / "model.safetensors", {"score": "0.5"})
    packing.load(restored, tmp_path / "model.safetensors")
    first, second = (export(each, name="packed") for each in (model, restored))
    for node, other in zip(first.nodes, second.nodes, strict=True):
        assert node.output == other.output
        np.testing.assert_array_equal(node.weight, other.weight)
        np.testing.assert_array_equal(node.bias, other.bias)
        np.testing.assert_array_equal(node.requantization.multiplier,
                                      other.requantization.multiplier)
        np.testing.assert_array_equal(node.requantization.shift, other.requantization.shift)
    images = torch.randn(3, 3, 8, 8)
    expected = model_integers(model, images)
    for tensor, value in model_integers(restored, images).items():
        np.testing.assert_array_equal(value, expected[tensor], err_msg=tensor)
    assert packing.notes(tmp_path / "model.safetensors") == {"score": "0.5"}


def test_models_of_other_layers_are_refused(tmp_path):
    packing.save(quantized(), tmp_path / "model.safetensors", {})
    with pytest.raises(RuntimeError, match=r"size mismatch|shape"):
        packing.load(quantized(channels=6), tmp_path / "model.safetensors")


@pytest.mark.parametrize("count", [1, 2, 15, 16])
def test_integers_of_4_bits_are_packed_by_twos(count):
    integers = torch.arange(count) - 8
    packed = packing.pack(integers)
    assert packed.dtype == torch.uint8
    assert packed.numel() == (count + 1) // 2
    assert torch.equal(packing.unpack(packed, count), integers)
