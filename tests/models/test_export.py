import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from pliant.compiler.graph import AveragePool, Clip, Convolution, GraphError, MaxPool, Padding
from pliant.compiler.reference import evaluate
from pliant_models.export import export, model_integers, requantization
from pliant_models.layers import POOL_MULTIPLIER_BITS, dyadic_reciprocal
from pliant_models.quantize import calibrate, quantize


class Block(nn.Module):
    """A residual block; `inplace` as torchvision writes it, with a projection if it strides."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(channels, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.down(x)
        return self.relu(y)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, (5, 3), (2, 1), padding=(2, 0), dilation=(1, 2)),
                                  nn.BatchNorm2d(12), nn.ReLU6())
        self.blocks = nn.Sequential(Block(12, 12), Block(12, 20, stride=2))
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(20, 7)

    def forward(self, x):
        return self.fc(self.drop(self.blocks(self.stem(x)).mean((-1, -2))))


class Pools(nn.Module):
    """Max pools with padding and ceil_mode, average pools with 9, 6 and 2 taps, no ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, bias=False)
        self.max = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.dilated = nn.MaxPool2d((2, 1), 1, dilation=(2, 1))
        self.mean = nn.AvgPool2d(3, 2, padding=1)
        self.wide = nn.AvgPool2d((3, 2), 1)
        self.project = nn.Conv2d(10, 6, 2, padding="valid")

    def forward(self, x):
        y = self.dilated(self.max(self.conv(x)))
        a, b = self.wide(self.mean(y)), self.project(functional.adaptive_avg_pool2d(y, (3, 7)))
        return torch.flatten(a, 1), functional.hardtanh(b, -0.3, 0.4)


class Unfused(nn.Module):
    """Activations that cannot be fused: after a pool, and behind a tensor that is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same")
        self.fc1 = nn.Linear(8 * 8 * 7, 30)
        self.norm = nn.BatchNorm1d(30)
        self.fc2 = nn.Linear(30, 5)

    def forward(self, x):
        y = self.conv(x)
        y = functional.relu(y) + functional.relu6(functional.max_pool2d(y, 1))
        y = functional.relu(self.norm(self.fc1(y.view(y.shape[0], -1))))
        return self.fc2(y + y)


NETWORKS = {"residual": Residual(), "pools": Pools(), "unfused": Unfused()}
SIZES = {"residual": (17, 15), "pools": (16, 14), "unfused": (8, 7)}


def quantized(name: str):
    torch.manual_seed(sum(map(ord, name)))
    network = type(NETWORKS[name])()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # so that folding matters
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
            module.weight.data.uniform_(-2, 2)
            module.bias.data.normal_()
    model = quantize(network, torch.zeros(1, 3, *SIZES[name]))
    calibrate(model, [torch.randn(16, 3, *SIZES[name]) for _ in range(4)])
    return network.eval(), model


@pytest.mark.parametrize("name", NETWORKS)
def test_brevitas_in_float64_equals_the_integer_graph_in_every_layer(name):
    _, model = quantized(name)
    graph = export(model, name=name)
    images = torch.randn(100, 3, *SIZES[name]) * 1.5
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    assert list(found) == list(expected)
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
        assert len(np.unique(value)) > 12, f"{tensor} hardly uses int8"


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_approximate_the_float_network(name):
    network, model = quantized(name)
    graph, images = export(model, name=name), torch.randn(50, 3, *SIZES[name])
    integers = model_integers(model, images)
    with torch.no_grad():
        expected = network(images)
    for value, output in zip(
            expected if isinstance(expected, tuple) else (expected,), graph.outputs, strict=True):
        real = integers[output].reshape(value.shape) * graph.tensors()[output].scale
        error = np.abs(real - value.numpy()).mean() / value.abs().mean().item()
        assert error < 0.15, output


def test_models_are_left_as_they_are():
    network, model = quantized("residual")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.state_dict()["stem_0.weight"].dtype == torch.float32
    export(model, name="residual")
    model_integers(model, torch.randn(2, 3, 17, 15))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    assert isinstance(network.blocks[0].bn1, nn.BatchNorm2d)


def test_quantized_models_train():
    _, model = quantized("residual")
    images, labels = torch.randn(64, 3, 17, 15), torch.arange(64) % 7
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert losses[-1] < 0.95 * losses[0]
    graph = export(model, name="trained")
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)


def test_structure_is_that_of_the_network():
    graph = export(quantized("residual")[1], name="residual")
    assert [(node.name, type(node).__name__) for node in graph.nodes] == [
        ("stem.0", "Convolution"), ("blocks.0.conv1", "Convolution"),
        ("blocks.0.conv2", "Convolution"), ("blocks.0.add", "Add"),
        ("blocks.1.conv1", "Convolution"), ("blocks.1.conv2", "Convolution"),
        ("blocks.1.down", "Convolution"), ("blocks.1.add", "Add"), ("mean", "AveragePool"),
        ("fc", "Convolution"),
    ]
    stem = graph.nodes[0]
    assert isinstance(stem, Convolution)
    assert (stem.stride, stem.dilation, stem.padding) == (
        (2, 1), (1, 2), Padding(top=2, bottom=2))
    six = round(6 / stem.output.scale)
    assert (stem.requantization.clip_min, stem.requantization.clip_max) == (0, min(127, six))


def test_pools_and_clips_are_exported_with_their_geometry():
    graph = export(quantized("pools")[1], name="pools")
    pools = {node.name: node for node in graph.nodes}
    assert isinstance(pools["max"], MaxPool)
    assert pools["max"].padding == Padding(top=1, left=1, bottom=2, right=2)
    assert pools["max"].output.shape == (10, 8, 7)
    assert isinstance(pools["mean"], AveragePool)
    assert pools["mean"].padding == Padding(top=1, left=1, bottom=1, right=1)
    unfused = export(quantized("unfused")[1], name="unfused")
    assert [type(node) for node in unfused.nodes].count(Clip) == 2
    linear = next(node for node in unfused.nodes if node.name == "fc1")
    assert isinstance(linear, Convolution)
    assert linear.weight.shape == (30, 8, 8, 7)


@pytest.mark.parametrize("taps", range(1, 129))
def test_average_pooling_divides_to_within_16_bits(taps):
    multiplier, divisor = dyadic_reciprocal(taps).as_integer_ratio()
    assert multiplier < 1 << POOL_MULTIPLIER_BITS
    assert abs(multiplier * taps - divisor) <= divisor / (1 << POOL_MULTIPLIER_BITS)
    if taps & (taps - 1) == 0:
        assert (multiplier, divisor) == (1, taps)


def test_requantization_is_exact_or_refused():
    scales = np.array([3 * 2.0**-7, 1.0, 255 * 2.0**-62, 2.0**-63, 4.0])
    how = requantization("layer", scales, -3, 9)
    assert how.multiplier.tolist() == [3, 1, 255, 0, 4]
    assert how.shift.tolist() == [7, 0, 62, 0, 0]
    assert (how.clip_min, how.clip_max) == (-3, 9)
    with pytest.raises(GraphError, match="layer 'stem'"):
        requantization("stem", np.array([2.0**31]), -128, 127)


@pytest.mark.parametrize("bounds", [(1000.0, 2000.0), (-2000.0, -1000.0), (-0.3, 1e9), (1.5, 1e9)])
def test_bounds_beyond_int8_clip_to_its_ends(bounds):
    network = nn.Sequential(nn.MaxPool2d(1), nn.Hardtanh(*bounds))
    model = quantize(network, torch.zeros(1, 2, 4, 4))
    calibrate(model, [torch.randn(8, 2, 4, 4)])
    graph = export(model, name="bounds")
    images = 3 * torch.randn(20, 2, 4, 4)
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("clamp", [
    lambda x: torch.clamp(x, 0, 0.75), lambda x: x.clamp(min=-0.25), lambda x: x.clamp(max=0.5),
    lambda x: x.clamp_(-1, 1), lambda x: torch.clamp_min(x, 0.1), lambda x: torch.clamp_max(x, 1),
])
def test_clamps_become_clips(clamp, fused):
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1)

        def forward(self, x):
            y = self.conv(x)
            return clamp(y if fused else functional.max_pool2d(y, 1))

    torch.manual_seed(3)
    network = Clamped().eval()
    model = quantize(network, torch.zeros(1, 2, 4, 4))
    calibrate(model, [torch.randn(8, 2, 4, 4)])
    graph = export(model, name="clamps")
    images = torch.rand(20, 2, 4, 4) * 2 - 1
    expected = model_integers(model, images)
    found = evaluate(graph, expected[graph.inputs[0].name])
    for tensor, value in expected.items():
        np.testing.assert_array_equal(found[tensor], value, err_msg=tensor)
    [output] = graph.outputs
    scale = graph.tensors()[output].scale
    with torch.no_grad():
        real = network(images.clone()).numpy()
    assert np.abs(found[output] * scale - real).max() < 0.05
