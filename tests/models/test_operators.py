import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from pliant_models.capture import UnsupportedLayerError
from pliant_models.quantize import quantize


class Wrapped(nn.Module):
    """Convolution `conv`, then `function`."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function

    def forward(self, x):
        return self.function(self.conv(x))


CASES = {
    "grouped convolution": (nn.Conv2d(4, 4, 3, groups=2), "'function' (aten.conv2d.default)",
                            "4 to 4 channels in 2 groups", "groups=1"),
    "several filters a channel": (nn.Conv2d(4, 8, 3, groups=4), "'function' (aten.conv2d",
                                  "4 to 8 channels in 4 groups", "groups=1"),
    "transposed convolution": (nn.ConvTranspose2d(4, 4, 3), "'function' (aten.conv_transpose2d",
                               "no such operator", "conv2d, "),
    "softmax": (nn.Softmax(dim=1), "'function' (aten.softmax.int)", "no such operator",
                "rewrite the layer"),
    "even same padding": (nn.Conv2d(4, 4, 2, padding="same"), "'function' (aten.conv2d.padding)",
                          "asymmetric", "odd kernel"),
    "linear over channels": (nn.Linear(7, 2), "'function' (aten.linear.default)", "4 dimensions",
                             "flatten"),
    "constant": (lambda x: x + 1.5, "'add' (aten.add.Tensor)", "constant", "bias"),
    "broadcast": (lambda x: x + functional.adaptive_avg_pool2d(x, 1), "'add' (aten.add.Tensor)",
                  "shapes (4, 8, 7) and (4, 1, 1)", "equal shape"),
    "scaled addition": (lambda x: torch.add(x, x, alpha=2), "'add'", "alpha=2", "alpha=1"),
    "border means": (nn.AvgPool2d(3, padding=1, count_include_pad=False), "'function'",
                     "divisor varies", "count_include_pad=True"),
    "own divisor": (nn.AvgPool2d(3, divisor_override=5), "'function'", "divisor_override=5",
                    "leave"),
    "hanging windows": (nn.AvgPool2d(3, 2, ceil_mode=True), "'function'", "hang over",
                        "ceil_mode=False"),
    "uneven adaptive pool": (nn.AdaptiveAvgPool2d(3), "'function'", "8x7 to 3x3", "divides"),
    "mean of channels": (lambda x: x.mean(1), "'mean' (aten.mean.dim)", "mean over axes [1]",
                         "(2, 3)"),
    "reshape": (lambda x: x.view(-1, 2, 16, 7), "'view' (aten.view.default)",
                "(4, 8, 7) to (2, 16, 7)", "flattening"),
    "lone batch norm": (nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4)),
                        "'function.1' (aten.batch_norm.default)", "cannot be folded", "behind"),
}


@pytest.mark.parametrize("case", CASES)
def test_unsupported_layers_are_named_with_reason_and_remedy(case):
    function, *parts = CASES[case]
    with pytest.raises(UnsupportedLayerError) as caught:
        quantize(Wrapped(function), torch.zeros(1, 3, 8, 7))
    for part in parts:
        assert part in str(caught.value)
    (layer,) = caught.value.layers
    assert layer.reason
    assert layer.remedy


def test_all_unsupported_layers_are_listed_at_once():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU(), nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(UnsupportedLayerError) as caught:
        quantize(network, torch.zeros(1, 3, 8, 7))
    assert [layer.layer for layer in caught.value.layers] == ["1", "2"]
    assert str(caught.value).count("\n") == 1


def test_batch_norm_is_not_folded_into_a_shared_result():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    with pytest.raises(UnsupportedLayerError, match=r"'norm'.*whose output nothing else reads"):
        quantize(Shared(), torch.zeros(1, 3, 8, 7))


@pytest.mark.parametrize(("function", "words"), [
    (lambda x: (x, x), "'conv'.*returns its result more than once"),
    (lambda x: {"a": x, "b": [torch.cat(x.chunk(2, 1), 1)]}, "'conv'.*more than once"),
    (lambda x: (x.flatten(1), functional.relu(x), x), "'conv'.*more than once"),
])
def test_a_result_that_is_returned_twice_is_refused(function, words):
    with pytest.raises(UnsupportedLayerError, match=words):
        quantize(Wrapped(function), torch.zeros(1, 3, 8, 7))


@pytest.mark.parametrize("network", [nn.Identity(), nn.Flatten()])
def test_an_input_that_is_returned_is_refused(network):
    with pytest.raises(UnsupportedLayerError, match="the model returns its input"):
        quantize(network, torch.zeros(1, 3, 8, 7))
