"""Whatever cannot be compiled is refused: the message names layer, reason and remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from pliant.compiler import CompileError, compile_graph
from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DepthwiseConvolution,
    Graph,
    GraphError,
    Lookup,
    Node,
    Padding,
    Requantization,
    Tensor,
)
from pliant.compiler.reference import evaluate
from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.numerics import Rounding

TINY = preset("tiny")
NARROW = dataclasses.replace(TINY, name="narrow", multiplier_bits=16)


def requantization(channels: int, **changes: object) -> Requantization:
    values: dict[str, object] = {"multiplier": np.full(channels, 100, np.int64),
                                 "shift": np.full(channels, 20, np.int64)}
    return Requantization(**(values | changes))  # type: ignore[arg-type]


def convolution(**changes: object) -> Graph:
    weight = changes.pop("weight", np.ones((4, 3, 3, 3), np.int8))
    assert isinstance(weight, np.ndarray)
    shape = changes.pop("shape", (weight.shape[0], 6, 6))
    values: dict[str, object] = {
        "name": "conv", "inputs": ("x",), "output": Tensor(name="y", shape=shape),  # type: ignore
        "weight": weight, "bias": np.zeros(weight.shape[0], np.int32),
        "requantization": requantization(weight.shape[0]), }
    return graph(Convolution(**(values | changes)))  # type: ignore[arg-type]


def depthwise(**changes: object) -> Graph:
    weight = changes.pop("weight", np.ones((3, 3, 3), np.int8))
    assert isinstance(weight, np.ndarray)
    shape = changes.pop("shape", (3, 6, 6))
    values: dict[str, object] = {
        "name": "deep", "inputs": ("x",), "output": Tensor(name="y", shape=shape),  # type: ignore
        "weight": weight, "bias": np.zeros(3, np.int32), "requantization": requantization(3)}
    return graph(DepthwiseConvolution(**(values | changes)))  # type: ignore[arg-type]


def graph(*nodes: Node, shape: tuple[int, int, int] = (3, 8, 8), zero_point: int = 0) -> Graph:
    return Graph(name="net", inputs=(Tensor(name="x", shape=shape, zero_point=zero_point),),
                 nodes=nodes, outputs=(nodes[-1].output.name,) if nodes else ())


def add(**changes: object) -> Graph:
    values: dict[str, object] = {
        "name": "sum", "inputs": ("x", "x"), "output": Tensor(name="y", shape=(3, 8, 8)),
        "multipliers": (1, 1), "offset": 0, "shift": 1}
    return graph(Add(**(values | changes)))  # type: ignore[arg-type]


def pool(size: int, kernel: int) -> Graph:
    output = Tensor(name="y", shape=(3, size - kernel + 1, size - kernel + 1))
    return graph(
        AveragePool(name="pool", inputs=("x",), output=output, kernel=(kernel, kernel),
                    stride=(1, 1), requantization=requantization(3)), shape=(3, size, size))


def clip(low: int, high: int) -> Graph:
    return graph(Clip(name="relu", inputs=("x",), output=Tensor(name="y", shape=(3, 8, 8)),
                      clip_min=low, clip_max=high))


class Softmax(Node):
    """A node that no compiler pass knows."""


UNKNOWN = graph(Softmax(name="softmax", inputs=("x",), output=Tensor(name="y", shape=(3, 8, 8))))
NO_TABLE = graph(Lookup(name="gelu", inputs=("x",), output=Tensor(name="y", shape=(3, 8, 8)),
                        table=np.zeros(255, np.int8)))

BAD: dict[str, tuple[Callable[[], Graph], AcceleratorConfig, str, str, str]] = {
    # what is wrong: graph, configuration, layer, part of the reason, part of the remedy
    "unknown node": (lambda: UNKNOWN, TINY, "softmax", "Softmax is not supported",
                     "Convolution"),
    "no nodes": (lambda: graph(), TINY, "net", "no nodes", "add a layer"),
    "undefined input": (lambda: convolution(inputs=("z",)), TINY, "conv", "'z' is not defined",
                        "execution order"),
    "wrong arity": (lambda: add(inputs=("x",)), TINY, "sum", "has 1 inputs", "takes 2"),
    "tensor defined twice": (
        lambda: convolution(output=Tensor(name="x", shape=(4, 6, 6))), TINY, "conv",
        "'x' is defined twice", "own name"),
    "output nobody computes": (
        lambda: convolution().replace(outputs=("x",)), TINY, "net", "'x' is computed by no node",
        "output of a node"),
    "wrong output shape": (lambda: convolution(shape=(4, 8, 8)), TINY, "conv",
                           "declared as (4, 8, 8), the operands give (4, 6, 6)", "correct"),
    "grouped convolution": (
        lambda: convolution(weight=np.ones((4, 1, 3, 3), np.int8)), TINY, "conv",
        "of 1 to 4 channels in 1 groups, the input 'x' has 3", "groups must divide"),
    "depthwise weights of another rank": (
        lambda: depthwise(weight=np.ones((3, 1, 3, 3), np.int8)), TINY, "deep",
        "weight is int8 (3, 1, 3, 3)", "int8 (channels, kernel height, kernel width)"),
    "depthwise weights of another type": (
        lambda: depthwise(weight=np.ones((3, 3, 3), np.int16)), TINY, "deep",
        "weight is int16 (3, 3, 3)", "must be int8"),
    "depthwise with more outputs than inputs": (
        lambda: depthwise(weight=np.ones((6, 3, 3), np.int8)), TINY, "deep",
        "take 6 input channels, the input 'x' has 3", "one kernel for each input channel"),
    "depthwise bias": (
        lambda: depthwise(bias=np.zeros(4, np.int32)), TINY, "deep", "bias has shape (4,)",
        "one entry per output channel, 3"),
    "depthwise of another shape": (
        lambda: depthwise(shape=(3, 8, 8)), TINY, "deep",
        "declared as (3, 8, 8), the operands give (3, 6, 6)", "correct"),
    "depthwise bias overflow": (
        lambda: depthwise(bias=np.full(3, (1 << 31) - 1, np.int32)), TINY, "deep",
        "an accumulator can reach", "smaller bias"),
    "depthwise kernel larger than the tap buffer": (
        lambda: dataclasses.replace(
            depthwise(weight=np.ones((3, 18, 17), np.int8), shape=(3, 1, 1)),
            inputs=(Tensor(name="x", shape=(3, 18, 17)),)),
        TINY, "deep", "its 18x17 kernel takes 81 words of the tap buffer for one lane group, "
        "tap_depth of 'tiny' is 64", "larger tap_depth"),
    **{f"{what} weight below the narrow range": (
        lambda make=make, weight=weight: make(weight=weight), TINY, layer,
        "the smallest weight is -128, allowed is -127 to 127", "narrow range")
       for what, make, layer, weight in (
           ("dense", convolution, "conv", np.full((4, 3, 3, 3), -128, np.int8)),
           ("depthwise", depthwise, "deep", np.full((3, 3, 3), -128, np.int8)))},
    "kernel larger than the input": (
        lambda: convolution(weight=np.ones((4, 3, 9, 9), np.int8)), TINY, "conv",
        "spans 9 pixels, the padded input has 8", "smaller kernel"),
    "stride behind a layer": (  # a first layer's input could be arranged instead
        lambda: graph(*clip(0, 9).nodes, *convolution(
            inputs=("y",), output=Tensor(name="z", shape=(4, 2, 6)), stride=(16, 1),
            padding=Padding(top=16)).nodes),
        TINY, "conv", "stride is 16, allowed is 1 to 15", "smaller stride"),
    "wide multiplier": (
        lambda: convolution(requantization=requantization(4, multiplier=np.full(4, 1 << 16))),
        NARROW, "conv", "multiplier is 65536, allowed is 0 to 65535", "multiplier_bits than 16"),
    "long shift": (
        lambda: convolution(requantization=requantization(4, shift=np.full(4, 63))), TINY, "conv",
        "is 63, allowed is 0 to 62", "shift"),
    "short gemmlowp shift": (
        lambda: convolution(requantization=requantization(4, rounding=Rounding.GEMMLOWP)), TINY,
        "conv", "GEMMLOWP) is 20, allowed is 31 to 62", "shift"),
    "bias overflow": (
        lambda: convolution(bias=np.full(4, (1 << 31) - 1, np.int32)), TINY, "conv",
        "an accumulator can reach", "smaller bias"),
    "folded bias overflow": (
        lambda: dataclasses.replace(convolution(bias=np.full(4, (1 << 31) - 1, np.int32)),
                                    inputs=(Tensor(name="x", shape=(3, 8, 8), zero_point=-9),)),
        TINY, "conv", "zero point folded in can reach", "smaller bias"),
    "add multiplier": (lambda: add(multipliers=(256, 1)), TINY, "sum",
                       "first add multiplier is 256, allowed is -256 to 255", "scale"),
    "add offset": (lambda: add(offset=1 << 19), TINY, "sum",
                   "add offset is 524288, allowed is -524288 to 524287", "scale"),
    "add shift": (lambda: add(shift=32), TINY, "sum", "add shift is 32, allowed is 0 to 31",
                  "shorten the shift"),
    "add of different shapes": (
        lambda: graph(*convolution(padding=Padding(top=1, left=1)).nodes,
                      *add(inputs=("x", "y"), output=Tensor(name="z", shape=(3, 8, 8))).nodes),
        TINY, "conv", "declared as (4, 6, 6)", "window"),
    "clip bounds": (lambda: clip(5, 3), TINY, "relu", "clip_max is 3, allowed is 5 to 127",
                    "range"),
    "table size": (lambda: NO_TABLE, TINY, "gelu", "table is int8 (255,)", "(256,)"),
    "pool larger than the buffer": (
        lambda: pool(100, 100), TINY, "pool", "100x100 pixels of 4 channels",
        "larger feature_depth"),
    "pool kernel": (lambda: pool(300, 256), preset("kv260"), "pool", "kernel is 256",
                    "smaller kernel"),
    "kernel larger than the weight buffer": (
        lambda: dataclasses.replace(convolution(
            weight=np.full((4, 4, 20, 20), 8, np.int8), shape=(4, 1, 1)),
            inputs=(Tensor(name="x", shape=(4, 20, 20)),)),
        TINY, "conv", "takes 1600 words of the weight buffer", "larger weight_depth"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_refused_with_layer_reason_and_remedy(what: str) -> None:
    make, config, layer, reason, remedy = BAD[what]
    with pytest.raises(CompileError) as caught:
        compile_graph(make(), config)
    assert caught.value.layer == layer
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy
    assert str(caught.value) == f"layer {layer!r}: {caught.value.reason}; {caught.value.remedy}"


TYPES: dict[str, tuple[dict[str, object], str]] = {
    "real bias": ({"bias": np.full(4, 0.5)}, r"bias is float64 \(4,\); it must be an array of int"),
    "list of biases": ({"bias": [0] * 4}, "bias is a list"),
    "real multiplier": ({"requantization": requantization(4, multiplier=np.full(4, 1.5))},
                        "multiplier is float64"),
    "one shift": ({"requantization": requantization(4, shift=3)}, "shift is a int"),
    "number of a rounding": ({"requantization": requantization(4, rounding=1)},
                             "rounding is 1; it must be a Rounding"),
    "real clip": ({"requantization": requantization(4, clip_min=0.5)}, "clip_min is 0.5"),
    "no requantization": ({"requantization": None}, "requantization is a NoneType"),
    "one stride": ({"stride": 2}, "stride is 2; it must be two integers"),
    "real stride": ({"stride": (1.0, 1)}, r"stride is \(1.0, 1\)"),
    "three dilations": ({"dilation": (1, 1, 1)}, "dilation is"),
    "true groups": ({"groups": True}, "groups is True; it must be an integer"),
    "real padding": ({"padding": Padding(top=0.5)}, "padding is Padding"),  # type: ignore[arg-type]
    "no inputs": ({"inputs": ()}, r"inputs is \(\); it must be a tuple of one or more"),
    "input that is no tuple": ({"inputs": "x"}, "inputs is 'x'"),
    "flat output": ({"output": Tensor(name="y", shape=(4, 6))},  # type: ignore[arg-type]
                    r"shape of 'y' is \(4, 6\)"),
    "scale": ({"output": Tensor(name="y", shape=(4, 6, 6), scale=float("nan"))},
              "scale of 'y' is nan; it must be a positive"),
    "zero point": ({"output": Tensor(name="y", shape=(4, 6, 6), zero_point=0.5)},  # type: ignore
                   "zero point of 'y' is 0.5"),
    "nameless output": ({"output": Tensor(name="", shape=(4, 6, 6))}, "name is ''"),
}


@pytest.mark.parametrize("what", list(TYPES))
def test_values_of_other_types_are_refused_by_node_and_field(what: str) -> None:
    changes, message = TYPES[what]
    good = convolution()
    bad = good.replace(nodes=(dataclasses.replace(good.nodes[0], **changes),))
    images = np.zeros((1, 3, 8, 8), np.int8)
    for use in (lambda: compile_graph(bad, TINY), lambda: evaluate(bad, images)):
        with pytest.raises(GraphError, match=f"node 'conv': .*{message}"):
            use()


def test_nodes_of_one_name_are_refused() -> None:
    first, second = convolution().nodes[0], depthwise().nodes[0]
    twice = graph(first, dataclasses.replace(
        second, name="conv", output=dataclasses.replace(second.output, name="z")))
    with pytest.raises(CompileError, match="'conv': several nodes have this name"):
        compile_graph(twice.replace(outputs=("y", "z")), TINY)


def test_the_graphs_that_the_bad_ones_are_made_from_compile() -> None:
    for good in (convolution(), depthwise(), add(), pool(20, 3), clip(0, 127)):
        assert compile_graph(good, TINY).decoded()
