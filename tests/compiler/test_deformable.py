"""Deformable convolutions: what the integer definition promises, and what the compiler refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.errors import CompileError
from pliant.compiler.graph import (
    Convolution,
    DeformableConvolution,
    Graph,
    Padding,
    Requantization,
    Tensor,
)
from pliant.compiler.reference import evaluate
from pliant.spec.config import preset
from pliant.spec.isa import Load, Matrix, Target
from pliant.spec.sampling import MASK_ONE, Offsets, Sampling
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
SIZE, CHANNELS, OUT = 12, 6, 9


def layer(
    sampling: Sampling | None, *, kernel: int = 3, zero_point: int = 5, size: int = SIZE,
) -> Graph:
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (OUT, CHANNELS, kernel, kernel)).astype(np.int8)
    inputs = [Tensor(name="x", shape=(CHANNELS, size, size), zero_point=zero_point)]
    shape = (size, size)
    given = {
        "name": "layer", "output": Tensor(name="y", shape=(OUT, *shape)), "weight": weight,
        "bias": random.integers(-500, 500, OUT).astype(np.int32),
        "requantization": Requantization(multiplier=np.full(OUT, 77), shift=np.full(OUT, 15)),
        "padding": Padding(**dict.fromkeys(("top", "left", "bottom", "right"), kernel // 2)),
    }
    if sampling is None:
        node = Convolution(inputs=("x",), **given)  # type: ignore[arg-type]
    else:
        sides = kernel, kernel
        inputs.append(Tensor(name="offsets", shape=(sampling.offset_channels(sides), *shape)))
        if sampling.offsets is Offsets.MODULATED:
            inputs.append(Tensor(name="masks", shape=(sampling.mask_channels(sides), *shape),
                                 zero_point=-MASK_ONE))
        node = DeformableConvolution(  # type: ignore[assignment]
            inputs=tuple(tensor.name for tensor in inputs), sampling=sampling,
            **given)  # type: ignore[arg-type]
    return Graph(name="net", inputs=tuple(inputs), nodes=(node,), outputs=("y",))


def values(graph: Graph, seed: int = 1) -> dict[str, NDArray[np.int8]]:
    random = np.random.default_rng(seed)
    return {tensor.name: random.integers(-128, 128, (1, *tensor.shape)).astype(np.int8)
            for tensor in graph.inputs}


def simulate(graph: Graph, given: dict[str, NDArray[np.int8]]) -> NDArray[np.int8]:
    program = compile_graph(graph, TINY)
    return InstructionSimulator(TINY).run(
        program, [given[tensor.name] for tensor in graph.inputs]).outputs[0]


@pytest.mark.parametrize("interpolate", [True, False])
@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP, Offsets.MODULATED])
def test_zero_offsets_equal_the_plain_convolution(offsets: Offsets, interpolate: bool) -> None:
    bent = layer(Sampling(offsets=offsets, interpolate=interpolate))
    given = values(bent)
    given["offsets"][...] = 0
    if offsets is Offsets.MODULATED:
        given["masks"][...] = 0  # a factor of one
    expected = evaluate(layer(None), given["x"])["y"]
    np.testing.assert_array_equal(evaluate(bent, given)["y"], expected)
    np.testing.assert_array_equal(simulate(bent, given), expected)


def test_offsets_of_whole_pixels_read_the_pixels_there() -> None:
    bent = layer(Sampling(offsets=Offsets.PER_TAP))
    given = values(bent)
    given["offsets"][...] = 0
    given["offsets"][:, ::2] = 16 * 3  # all taps three rows down
    shifted = np.full_like(given["x"], 5)
    shifted[:, :, :-3] = given["x"][:, :, 3:]
    plain = evaluate(layer(None), shifted)["y"]
    rows = slice(1, -4)  # beyond, a tap's row is padding for one and pixels for the other
    np.testing.assert_array_equal(evaluate(bent, given)["y"][:, :, rows], plain[:, :, rows])


@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP])
def test_offsets_saturate_at_their_bounds(offsets: Offsets) -> None:
    narrow = layer(Sampling(offsets=offsets, minimum=-20, maximum=9))
    given = values(narrow)
    clipped = given | {"offsets": np.clip(given["offsets"], -20, 9)}
    result = simulate(narrow, given)
    np.testing.assert_array_equal(result, simulate(layer(Sampling(offsets=offsets)), clipped))
    np.testing.assert_array_equal(result, evaluate(narrow, given)["y"])


@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP, Offsets.MODULATED])
def test_nothing_outside_the_tensor_is_read(offsets: Offsets) -> None:
    """The buffer holds random bytes around it, and the tensor beside it is never seen."""
    graph = layer(Sampling(offsets=offsets), zero_point=0)
    given = values(graph)
    given["x"][...] = 0
    biases = next(node.bias for node in graph.nodes if isinstance(node, DeformableConvolution))
    expected = np.clip(np.rint(biases * 77 / 2**15), -128, 127)
    result = simulate(graph, given)
    assert (result == expected[None, :, None, None]).all()


def test_tiles_load_what_bounded_offsets_reach_and_no_more() -> None:
    rows = {}
    for bound in (16, 64):
        graph = layer(Sampling(offsets=Offsets.PER_TAP, minimum=-bound, maximum=bound), size=40)
        program = compile_graph(graph, dataclasses.replace(TINY, feature_depth=2048))
        loads = [i for i in program.decoded() if isinstance(i, Load) and i.target == Target.FEATURE]
        rows[bound] = sum(load.rows * load.row_beats * load.groups for load in loads)
    assert rows[16] < rows[64]


def test_channels_of_one_tile_share_a_copy_of_the_offsets() -> None:
    graph = layer(Sampling(offsets=Offsets.SCALED), size=8)
    matrices = [i for i in compile_graph(graph, TINY).decoded() if isinstance(i, Matrix)]
    channel_tiles = -(-OUT // TINY.cols)
    assert channel_tiles == 2
    assert [matrix.offset_load for matrix in matrices] == [1, 0] * (len(matrices) // 2)


def test_full_range_is_refused_where_the_tensor_does_not_fit() -> None:
    wide = Sampling(offsets=Offsets.PER_TAP, fraction_bits=0)
    assert simulate(layer(wide, size=8), values(layer(wide, size=8))).shape == (1, OUT, 8, 8)
    with pytest.raises(CompileError, match=r"layer 'layer': its smallest tile.*feature_depth"):
        compile_graph(layer(wide, size=60), TINY)


@pytest.mark.parametrize(("change", "message"), [
    ({"sampling": Sampling(offsets=Offsets.PER_TAP, fraction_bits=5)}, "fraction_bits"),
    ({"sampling": Sampling(offsets=Offsets.PER_TAP, minimum=3, maximum=2)}, "greatest offset"),
    ({"sampling": Sampling(offsets=Offsets.SCALED)}, "must have shape"),
    ({"sampling": Sampling(offsets=Offsets.MODULATED)}, "takes 3"),
    ({"groups": 4}, "in 4 groups"),
])
def test_malformed_layers_are_refused(change: dict[str, object], message: str) -> None:
    graph = layer(Sampling(offsets=Offsets.PER_TAP))
    [node] = graph.nodes
    broken = graph.replace(nodes=(dataclasses.replace(node, **change),))  # type: ignore[arg-type]
    with pytest.raises(CompileError, match=message):
        compile_graph(broken, TINY)


def test_a_configuration_without_offset_memory_says_so() -> None:
    plain = dataclasses.replace(TINY, offset_depth=0)
    with pytest.raises(CompileError, match="'tiny' has no offset memory"):
        compile_graph(layer(Sampling(offsets=Offsets.SCALED)), plain)


def test_a_kernel_with_too_many_offsets_names_the_memory() -> None:
    small = dataclasses.replace(TINY, offset_depth=16)
    with pytest.raises(CompileError, match="do not fit offset_depth = 16"):
        compile_graph(layer(Sampling(offsets=Offsets.PER_TAP), kernel=5), small)


@pytest.mark.parametrize("offsets", [Offsets.PER_TAP, Offsets.MODULATED])
def test_a_kernel_whose_offsets_pass_the_field_of_the_instruction_is_refused(
    offsets: Offsets,
) -> None:
    deep = dataclasses.replace(TINY, offset_depth=1 << 16)
    bounded = Sampling(offsets=offsets, minimum=-2, maximum=2)
    compile_graph(layer(bounded, kernel=5), deep)
    with pytest.raises(CompileError, match=r"'layer'.*7x7 kernel.*offset_groups = 25.*15"):
        compile_graph(layer(bounded, kernel=7), deep)
