import numpy as np
import pytest

from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DepthwiseConvolution,
    Graph,
    GraphError,
    Lookup,
    MaxPool,
    Node,
    Padding,
    Requantization,
    Tensor,
)
from pliant.compiler.reference import evaluate, graph_macs

UNIT = Requantization(multiplier=np.array([1]), shift=np.array([0]))
IMAGE = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4)


def one_node(node: Node, *inputs: Tensor) -> Graph:
    inputs = inputs or (Tensor(name="x", shape=(1, 4, 4)),)
    return Graph(name="test", inputs=inputs, nodes=(node,), outputs=(node.output.name,))


def convolution(weight: list, shape: tuple[int, int, int], **fields) -> Convolution:
    return Convolution(name="conv", inputs=("x",), output=Tensor(name="y", shape=shape),
                       weight=np.array(weight, np.int8), bias=np.array([10], np.int32),
                       **{"requantization": UNIT, **fields})


def test_convolution_equals_a_loop_over_every_tap():
    rng = np.random.default_rng(1)
    value = rng.integers(-128, 128, (2, 3, 7, 6), np.int8)
    weight = rng.integers(-127, 128, (5, 3, 3, 2), np.int8)
    bias = rng.integers(-10_000, 10_000, 5, np.int32)
    requantization = Requantization(
        multiplier=rng.integers(200, 256, 5), shift=rng.integers(16, 19, 5), zero_point=-9)
    pad = Padding(top=2, left=0, bottom=1, right=3)
    output = Tensor(name="y", shape=(5, 2, 4), zero_point=-9)
    node = Convolution(name="conv", inputs=("x",), output=output,
                       weight=weight, bias=bias, requantization=requantization,
                       stride=(3, 2), dilation=(2, 1), padding=pad)
    graph = one_node(node, Tensor(name="x", shape=(3, 7, 6), zero_point=7))
    result = evaluate(graph, value)["y"]
    macs = 0
    for n, o, oy, ox in np.ndindex(result.shape):
        total = int(bias[o])
        for c, ky, kx in np.ndindex(3, 3, 2):
            y, x = oy * 3 - pad.top + ky * 2, ox * 2 - pad.left + kx
            if 0 <= y < 7 and 0 <= x < 6:
                total += (int(value[n, c, y, x]) - 7) * int(weight[o, c, ky, kx])
                macs += 1
        exact = total * int(requantization.multiplier[o]) / 2 ** int(requantization.shift[o])
        assert result[n, o, oy, ox] == np.clip(round(exact) - 9, -128, 127)
    assert 2 * graph_macs(node, (3, 7, 6)) == macs


def test_depthwise_convolution_is_a_dense_one_with_zeros_between_channels():
    rng = np.random.default_rng(2)
    value = rng.integers(-128, 128, (2, 6, 9, 7), np.int8)
    weight = rng.integers(-127, 128, (6, 3, 2), np.int8)
    dense = np.zeros((6, 6, 3, 2), np.int8)
    dense[np.arange(6), np.arange(6)] = weight
    requantization = Requantization(
        multiplier=rng.integers(200, 256, 6), shift=rng.integers(14, 17, 6), zero_point=4)
    fields = {"name": "layer", "inputs": ("x",), "stride": (2, 1), "dilation": (1, 2),
              "padding": Padding(top=1, right=2), "requantization": requantization,
              "bias": rng.integers(-10_000, 10_000, 6, np.int32),
              "output": Tensor(name="y", shape=(6, 4, 7), zero_point=4)}
    source = Tensor(name="x", shape=(6, 9, 7), zero_point=-3)
    node = DepthwiseConvolution(weight=weight, **fields)
    same = Convolution(weight=dense, **fields)
    result, expected = (evaluate(one_node(n, source), value)["y"] for n in (node, same))
    np.testing.assert_array_equal(result, expected)
    assert len(np.unique(result)) > 100
    assert 6 * graph_macs(node, source.shape) == graph_macs(same, source.shape)


def test_large_sums_are_exact_beyond_float32():
    inner = 2000
    weight = np.full((1, inner, 1, 1), 127, np.int8)
    weight[0, 0] = 1
    value = np.full((1, inner, 1, 1), -128, np.int8)
    value[0, 0] = 1
    total = 1 - 127 * 128 * (inner - 1)
    node = Convolution(
        name="conv", inputs=("x",), output=Tensor(name="y", shape=(1, 1, 1)), weight=weight,
        bias=np.array([-total - 3], np.int32), requantization=UNIT)
    graph = one_node(node, Tensor(name="x", shape=(inner, 1, 1)))
    assert evaluate(graph, value)["y"].item() == -3


def test_pools_ignore_or_zero_their_padding():
    pad = Padding(top=1, left=1)
    largest = MaxPool(name="max", inputs=("x",), output=Tensor(name="y", shape=(1, 2, 2)),
                      kernel=(2, 2), stride=(2, 2), padding=pad)
    graph = one_node(largest, Tensor(name="x", shape=(1, 4, 4), zero_point=5))
    assert evaluate(graph, IMAGE)["y"].ravel().tolist() == [-8, -6, 0, 2]
    mean = AveragePool(name="mean", inputs=("x",), output=Tensor(name="y", shape=(1, 2, 2)),
                       kernel=(2, 2), stride=(2, 2), padding=pad,
                       requantization=Requantization(multiplier=np.array([1]),
                                                     shift=np.array([2])))
    graph = one_node(mean, Tensor(name="x", shape=(1, 4, 4), zero_point=-8))
    assert evaluate(graph, IMAGE)["y"].ravel().tolist() == [0, 1, 3, 8]  # 0, 3/4, 12/4, 30/4


def test_add_lookup_and_clip():
    add = Add(name="add", inputs=("x", "x"), output=Tensor(name="s", shape=(1, 4, 4)),
              multipliers=(3, 1), offset=1, shift=1, clip_max=9)
    assert evaluate(one_node(add), IMAGE)["s"].ravel().tolist() == [
        int(np.clip(round((4 * v + 1) / 2), -128, 9)) for v in range(-8, 8)]
    table = np.roll(np.arange(-128, 128, dtype=np.int8), 128)
    assert table[5] == 5
    assert table[-3 & 255] == -3
    lookup = Lookup(name="t", inputs=("x",), output=Tensor(name="y", shape=(1, 4, 4)),
                    table=np.negative(table))
    np.testing.assert_array_equal(evaluate(one_node(lookup), IMAGE)["y"], -IMAGE)
    clip = Clip(name="c", inputs=("x",), output=Tensor(name="y", shape=(1, 4, 4)),
                clip_min=0, clip_max=6)
    np.testing.assert_array_equal(evaluate(one_node(clip), IMAGE)["y"], np.clip(IMAGE, 0, 6))


def test_accumulator_overflow_names_the_node():
    node = convolution([[[[127]]]], (1, 4, 4))
    node.bias[0] = -(1 << 31)
    with pytest.raises(GraphError, match=r"'conv'.*not int32"):
        evaluate(one_node(node), IMAGE)


@pytest.mark.parametrize(("value", "message"), [
    (np.zeros((1, 1, 4, 5), np.int8), r"input 'x' is int8 \(1, 1, 4, 5\)"),
    (np.zeros((1, 1, 4, 4), np.int32), "must be int8"),
    ({"z": IMAGE}, "no value given for input 'x'"),
])
def test_wrong_inputs_are_refused(value, message):
    with pytest.raises(GraphError, match=message):
        evaluate(one_node(convolution([[[[1]]]], (1, 4, 4))), value)


def test_inconsistent_graphs_are_refused():
    with pytest.raises(GraphError, match="'conv' yields shape"):
        evaluate(one_node(convolution([[[[1]]]], (1, 3, 4))), IMAGE)
    with pytest.raises(GraphError, match=r"'conv'.*does not fit"):
        evaluate(one_node(convolution(np.ones((1, 1, 5, 1)).tolist(), (1, 1, 4))), IMAGE)
    with pytest.raises(GraphError, match="weights of 2 input channels"):
        evaluate(one_node(convolution([[[[1]], [[1]]]], (1, 4, 4))), IMAGE)
    orphan = Clip(name="c", inputs=("w",), output=Tensor(name="y", shape=(1, 4, 4)),
                  clip_min=0, clip_max=6)
    with pytest.raises(GraphError, match="'c' reads 'w'"):
        evaluate(one_node(orphan), IMAGE)
