import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from pliant.compiler.graph import DeformableConvolution, Lookup
from pliant.compiler.reference import evaluate
from pliant.spec.sampling import Offsets, Sampling
from pliant_models.capture import UnsupportedLayerError, capture
from pliant_models.deformable import DEFORMABLE_CONVOLUTION, DeformableConv2d
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize

LAYERS = {
    "codenet": {"offsets": Offsets.SCALED, "groups": 6, "padding": 1},
    "large kernel": {"offsets": Offsets.SCALED, "groups": 1, "kernel": 5, "padding": 2},
    "per tap": {"offsets": Offsets.PER_TAP, "groups": 2, "padding": 1, "kernel": 2},
    "strided": {"offsets": Offsets.PER_TAP, "groups": 1, "padding": 3, "stride": 2, "dilation": 2},
    "modulated": {"offsets": Offsets.MODULATED, "groups": 1, "padding": 1},
    "modulated depthwise": {"offsets": Offsets.MODULATED, "groups": 6, "padding": 2, "dilation": 2},
    "coarse": {"offsets": Offsets.PER_TAP, "groups": 3, "padding": 1, "fraction_bits": 1},
    "nearest": {"offsets": Offsets.PER_TAP, "groups": 1, "padding": 1, "interpolate": False},
    "bounded": {"offsets": Offsets.SCALED, "groups": 6, "padding": 1, "minimum": -20, "maximum": 9},
}


def deformable(offsets, *, groups, kernel=3, padding=0, stride=1, dilation=1, **sampling):
    return DeformableConv2d(6, 6, kernel, groups=groups, padding=padding, stride=stride,
                            dilation=dilation, sampling=Sampling(offsets=offsets, **sampling))


class Network(nn.Module):
    """A stem, the layers that compute offsets and mask logits, and a deformable convolution."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layer = deformable(**LAYERS[name])
        window = {"stride": self.layer.stride, "padding": self.layer.padding,
                      "dilation": self.layer.dilation}
        sampling, kernel = self.layer.sampling, self.layer.kernel_size
        self.offsets = nn.Conv2d(6, sampling.offset_channels(kernel), kernel, **window)
        self.mask = (nn.Conv2d(6, sampling.mask_channels(kernel), kernel, **window)
                     if sampling.offsets is Offsets.MODULATED else None)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        mask = None if self.mask is None else torch.sigmoid(self.mask(x))
        return functional.relu(self.layer(x, self.offsets(x), mask))


def quantized(name: str):
    torch.manual_seed(sum(map(ord, name)))
    network = Network(name)
    network.offsets.weight.data *= 3
    model = quantize(network, torch.zeros(1, 3, 11, 9))
    calibrate(model, [torch.randn(16, 3, 11, 9)])
    return network.eval(), model


@pytest.mark.parametrize("name", LAYERS)
def test_model_in_float64_equals_the_integer_graph(name):
    _, model = quantized(name)
    graph = export(model, name=name)
    (node,) = (node for node in graph.nodes if isinstance(node, DeformableConvolution))
    assert node.sampling == deformable(**LAYERS[name]).sampling
    expected = model_integers(model, torch.randn(30, 3, 11, 9) * 1.5)
    found = evaluate(graph, expected[graph.inputs[0].name])
    assert list(found) == list(expected)
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
    displaced = found[node.inputs[1]]
    assert len(np.unique(displaced % 16)) > (2 if name in ("coarse", "bounded") else 8)


def test_masks_have_zero_point_minus_128_and_come_from_a_table():
    graph = export(quantized("modulated")[1], name="modulated")
    (lookup,) = (node for node in graph.nodes if isinstance(node, Lookup))
    assert (lookup.output.zero_point, lookup.output.scale) == (-128, 2.0**-7)
    scale = graph.tensors()[lookup.inputs[0]].scale
    for q in (-128, -5, 0, 3, 127):
        exact = 128 / (1 + np.exp(-q * scale)) - 128
        assert lookup.table[q & 255] == np.round(exact)


@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_offsets_of_zero_give_the_plain_convolution(offsets, groups):
    torch.manual_seed(1)
    layer = deformable(offsets, groups=groups, padding=2, stride=2, dilation=2).double()
    image = torch.randn(2, 6, 9, 10, dtype=torch.float64)
    plain = functional.conv2d(image, layer.weight, layer.bias, 2, 2, 2, groups)
    zero = torch.zeros(2, layer.sampling.offset_channels((3, 3)), *plain.shape[2:]).double()
    torch.testing.assert_close(layer(image, zero), plain, rtol=0, atol=1e-14)


def test_an_offset_of_one_is_a_dilation_more():
    layer = deformable(Offsets.SCALED, groups=6, padding=1).double()
    image = torch.randn(1, 6, 9, 10, dtype=torch.float64)
    dilated = functional.conv2d(image, layer.weight, layer.bias, 1, 3, 3, 6)
    found = layer(image, torch.full((1, 1, 9, 10), 2.0, dtype=torch.float64))
    torch.testing.assert_close(found, dilated, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["codenet", "per tap", "strided", "modulated"])
def test_gradients_of_everything_are_those_of_finite_differences(name):
    torch.manual_seed(2)
    layer = deformable(**LAYERS[name]).double()
    image = torch.randn(1, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    plain = functional.conv2d(image, layer.weight, None, layer.stride, layer.padding,
                              layer.dilation, layer.groups)
    sampling, size = layer.sampling, plain.shape[2:]
    offsets = (torch.randint(-8, 8, (1, sampling.offset_channels(layer.kernel_size), *size))
               + torch.empty(1).uniform_(0.2, 0.3)).double().requires_grad_()  # off the kinks
    masks = sampling.mask_channels(layer.kernel_size)
    mask = torch.rand(1, masks, *size, dtype=torch.float64, requires_grad=True) if masks else None

    def run(weight, bias, *inputs):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, inputs)

    inputs = [value for value in (image, offsets, mask) if value is not None]
    assert torch.autograd.gradcheck(run, (layer.weight, layer.bias, *inputs))


def test_export_sees_one_operator():
    captured = capture(Network("modulated"), torch.zeros(1, 3, 11, 9))
    targets = [node.target for node in captured.graph.nodes if node.op == "call_function"]
    assert targets.count(DEFORMABLE_CONVOLUTION) == 1
    assert len(targets) == 7  # three convolutions, two activations, a sigmoid


def test_operator_is_registered_soundly():
    layer = deformable(**LAYERS["modulated"])
    sampling = layer.sampling
    arguments = (torch.randn(2, 6, 5, 6, requires_grad=True), torch.randn(2, 18, 5, 6),
                 torch.rand(2, 9, 5, 6), layer.weight, layer.bias, [1, 1], [1, 1], [1, 1], 1,
                 int(sampling.offsets), sampling.fraction_bits, sampling.minimum,
                 sampling.maximum, sampling.interpolate)
    torch.library.opcheck(DEFORMABLE_CONVOLUTION, arguments)


def test_quantized_layers_train():
    _, model = quantized("modulated")
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, wanted = torch.randn(8, 3, 11, 9), torch.rand(8, 6, 11, 9)
    losses = []
    for _ in range(20):
        loss = functional.mse_loss(model(images), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.offsets.weight.grad.abs().max() > 0
    assert losses[-1] < 0.8 * losses[0]
    graph = export(model, name="trained")
    expected = model_integers(model, images)
    for tensor, value in evaluate(graph, expected[graph.inputs[0].name]).items():
        np.testing.assert_array_equal(value, expected[tensor], err_msg=tensor)


def test_batch_norm_is_folded_into_a_deformable_convolution():
    class Normed(Network):
        def __init__(self) -> None:
            super().__init__("codenet")
            self.norm = nn.BatchNorm2d(6)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.3, 3)

        def forward(self, x):
            x = functional.relu(self.stem(x))
            return self.norm(self.layer(x, self.offsets(x)))

    network = Normed().eval()
    captured = capture(network, torch.zeros(1, 3, 11, 9))
    image = torch.randn(2, 3, 11, 9)
    torch.testing.assert_close(captured(image), network(image))
    assert not any("batch_norm" in str(node.target) for node in captured.graph.nodes)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"offsets": Offsets.NONE}, "use nn.Conv2d"),
    ({"offsets": Offsets.SCALED, "kernel": 2}, "kernel = 2 must be odd"),
    ({"offsets": Offsets.SCALED, "kernel": 9}, "at most 7"),
    ({"offsets": Offsets.PER_TAP, "minimum": 3, "maximum": 2}, "3 to 2"),
    ({"offsets": Offsets.PER_TAP, "maximum": 128}, "within -128 to 127"),
    ({"offsets": Offsets.PER_TAP, "fraction_bits": 5}, "fraction_bits = 5"),
])
def test_layers_that_the_machine_lacks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        deformable(groups=1, **arguments)


@pytest.mark.parametrize("offsets", [Offsets.PER_TAP, Offsets.MODULATED])
@pytest.mark.parametrize("mask", [True, False])
def test_masks_come_with_modulated_offsets_alone(offsets, mask):
    layer = deformable(offsets, groups=1, padding=1)
    inputs = torch.randn(1, 6, 4, 4), torch.randn(1, 18, 4, 4), torch.rand(1, 9, 4, 4)
    if mask is (offsets is Offsets.MODULATED):
        layer(*inputs[:2 + mask])
    else:
        with pytest.raises(ValueError, match="mask"):
            layer(*inputs[:2 + mask])


def test_masks_without_sigmoid_and_sigmoids_elsewhere_are_unsupported():
    class Wrong(Network):
        def forward(self, x):
            x = self.stem(x)
            return torch.sigmoid(self.layer(x, self.offsets(x), self.mask(x)))

    with pytest.raises(UnsupportedLayerError) as caught:
        quantize(Wrong("modulated"), torch.zeros(1, 3, 11, 9))
    assert "a mask that is no sigmoid" in str(caught.value)
    assert "no mask of a deformable convolution" in str(caught.value)


class Given(nn.Module):
    """A deformable convolution whose offsets and mask other convolutions compute."""

    def __init__(self, layer, offsets, mask=None) -> None:
        super().__init__()
        self.layer, self.offsets, self.mask = layer, offsets, mask

    def forward(self, x):
        mask = None if self.mask is None else torch.sigmoid(self.mask(x))
        return self.layer(x, self.offsets(x), mask)


@pytest.mark.parametrize(("network", "found", "allowed"), [
    (Given(deformable(Offsets.SCALED, groups=1, padding=1), nn.Conv2d(6, 2, 3, padding=1)),
     r"offsets of shape \(2, 8, 7\)", r"\(1, 8, 7\)"),
    (Given(deformable(Offsets.PER_TAP, groups=1, padding=1), nn.Conv2d(6, 18, 3)),
     r"offsets of shape \(18, 6, 5\)", r"\(18, 8, 7\)"),
    (Given(deformable(Offsets.PER_TAP, groups=6, stride=2), nn.Conv2d(6, 17, 3, 2)),
     r"offsets of shape \(17, 3, 3\)", r"\(18, 3, 3\)"),
    (Given(deformable(Offsets.MODULATED, groups=1, dilation=2), nn.Conv2d(6, 18, 5),
           nn.Conv2d(6, 5, 5)), r"mask of shape \(5, 4, 3\)", r"\(9, 4, 3\)"),
])
def test_offsets_and_masks_of_other_shapes_are_refused(network, found, allowed):
    with pytest.raises(UnsupportedLayerError, match=f"layer 'layer'.*{found}.*{allowed}"):
        quantize(network, torch.zeros(1, 6, 8, 7))
