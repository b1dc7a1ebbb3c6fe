"""First layers with few channels: kernel positions go into the lanes."""

import dataclasses

import numpy as np
import pytest

from pliant.compiler import compile_graph, optimize
from pliant.compiler.graph import Convolution, Graph, Padding, Requantization, Tensor
from pliant.compiler.operation import operations
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant.spec.isa import Matrix
from pliant.spec.program import load_program
from pliant_sim.simulator import InstructionSimulator


def first_layer(channels: int, kernel: int, stride: int, size: int = 21) -> Graph:
    rng = np.random.default_rng(kernel)
    out = (size + 2 - kernel) // stride + 1
    return Graph(
        name="first", inputs=(Tensor(name="x", shape=(channels, size, size), zero_point=-7),),
        nodes=(Convolution(
            name="conv", inputs=("x",), output=Tensor(name="y", shape=(20, out, out)),
            weight=rng.integers(-127, 128, (20, channels, kernel, kernel)).astype(np.int8),
            bias=rng.integers(-999, 999, 20).astype(np.int32),
            requantization=Requantization(multiplier=np.full(20, 200, np.int64),
                                          shift=np.full(20, 18, np.int64)),
            stride=(stride, stride), padding=Padding(top=1, left=1, bottom=1, right=1)),),
        outputs=("y",))


def passes(graph: Graph, name: str) -> int:
    matrices = [item for item in compile_graph(graph, preset(name)).decoded()
                if isinstance(item, Matrix)]
    return sum(item.groups * item.kernel_height * item.kernel_width for item in matrices
               if item.out_height == matrices[0].out_height) // len(
        [item for item in matrices if item.out_height == matrices[0].out_height])


@pytest.mark.parametrize(("channels", "kernel", "stride", "expected"), [
    (3, 3, 1, 2), (3, 7, 2, 10), (1, 5, 1, 2),
    (4, 4, 1, 4),  # as many with rows in the lanes
    (3, 7, 1, 14),  # with rows in the lanes the input would take ten times the bytes
])
def test_passes_of_a_packed_first_layer(
    channels: int, kernel: int, stride: int, expected: int
) -> None:
    assert passes(first_layer(channels, kernel, stride), "pynq_z2") == expected


@pytest.mark.parametrize("name", ["tiny", "pynq_z2", "ultra96"])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride"), [(3, 3, 1), (3, 7, 2), (3, 7, 1), (1, 5, 3)])
def test_packed_layers_keep_their_integers_through_a_program_file(
    name: str, channels: int, kernel: int, stride: int, tmp_path: object
) -> None:
    config, graph = preset(name), first_layer(channels, kernel, stride)
    images = np.random.default_rng(0).integers(-128, 128, (2, channels, 21, 21), np.int8)
    path = f"{tmp_path}/first.pliant"
    compile_graph(graph, config).save(path)
    program = load_program(path, config)
    assert program.inputs[0].image_shape == (channels, 21, 21)
    result = InstructionSimulator(config).run(program, [images])
    np.testing.assert_array_equal(result.outputs[0], evaluate(graph, {"x": images})["y"])


def test_an_input_that_two_layers_read_stays_as_it_is() -> None:
    graph = first_layer(3, 3, 1)
    conv = graph.nodes[0]
    other = dataclasses.replace(conv, name="other", output=Tensor(name="z",
                                                                  shape=conv.output.shape))
    both = graph.replace(nodes=(conv, other), outputs=("y", "z"))
    lowered = optimize(both, preset("pynq_z2"))
    assert lowered.inputs[0].unfolding is None
    assert all(node.window.kernel == (3, 3) for node in operations(lowered))
