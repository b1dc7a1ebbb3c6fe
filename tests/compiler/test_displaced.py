"""Depthwise layers that read nearest pixels: the post unit displaces their taps."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from pliant.compiler import compile_graph, optimize, plan
from pliant.compiler.cycles import POST_OVERHEAD, post_cycles
from pliant.compiler.errors import CompileError
from pliant.compiler.geometry import Geometry
from pliant.compiler.graph import Add, Graph, Node, Padding, Tensor
from pliant.compiler.operation import Operation, Reduction, operations
from pliant.compiler.reference import evaluate
from pliant.compiler.tiling import choose_tiling
from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig, preset
from pliant.spec.isa import Load, Matrix, Post, Target
from pliant.spec.memory import ceil_div, feature_tensor_bytes
from pliant.spec.numerics import Rounding
from pliant.spec.program import Program
from pliant.spec.sampling import Offsets, Sampling
from pliant_models.random_layers import DISPLACED_KINDS, random_inputs, random_layer
from pliant_models.random_nodes import RandomNodes, Window
from pliant_sim.simulator import InstructionSimulator

TINY = preset("tiny")
SMALL = dataclasses.replace(TINY, name="small", feature_depth=256, tap_depth=16,
                            parameter_depth=16)
ULTRA96 = preset("ultra96")
PER_TAP = Sampling(offsets=Offsets.PER_TAP, interpolate=False)
BOUNDED = dataclasses.replace(PER_TAP, minimum=-40, maximum=20)


class Net:
    """A layer with displaced taps, `window` wide, and what stands around it."""

    def __init__(
        self, sampling: Sampling = PER_TAP, *, channels: int = 20, size: int = 12, kernel: int = 3,
        outputs: int | None = None, groups: int | None = None,
    ) -> None:
        self.nodes = RandomNodes(np.random.default_rng(0), 8)
        self.nodes.rounding = Rounding.HALF_EVEN
        side = kernel // 2
        behind = kernel - 1 - side
        self.window = Window((channels, size, size), (kernel, kernel), (1, 1), (1, 1),
                             Padding(top=side, left=side, bottom=behind, right=behind))
        self.sampling = sampling
        self.others = self.nodes.displacements(sampling, self.window)
        self.x = Tensor(name="x", shape=self.window.shape, zero_point=3)
        self.outputs, self.groups = outputs or channels, groups or channels

    def layer(self, source: Tensor, name: str = "layer") -> Node:
        return self.nodes.deformable(name, source, self.others, self.sampling, self.outputs,
                                     self.groups, self.window)

    def graph(self, *nodes: Node, inputs: tuple[Tensor, ...] = ()) -> Graph:
        return Graph(name="net", inputs=(self.x, *self.others, *inputs), nodes=nodes,
                     outputs=(nodes[-1].output.name,))


def lowered(graph: Graph, config: AcceleratorConfig = TINY) -> list[Operation]:
    return list(operations(optimize(graph, config)))


def displacing(program: Program) -> list[Post]:
    return [i for i in program.decoded() if isinstance(i, Post) and i.offsets]


def assert_exact(graph: Graph, config: AcceleratorConfig, seed: int = 0) -> Program:
    inputs = random_inputs(graph, seed)
    program = compile_graph(graph, config)
    result = InstructionSimulator(config).run(program, [inputs[t.name] for t in graph.inputs])
    expected = evaluate(graph, inputs, multiplier_bits=config.multiplier_bits)
    for name, values in zip(graph.outputs, result.outputs, strict=True):
        np.testing.assert_array_equal(values, expected[name], err_msg=f"{graph.name} {name}")
    return program


# Which unit

@pytest.mark.parametrize(("net", "reduction"), [
    (Net(), Reduction.DEPTHWISE),
    (Net(Sampling(offsets=Offsets.SCALED, interpolate=False)), Reduction.DEPTHWISE),
    (Net(Sampling(offsets=Offsets.SCALED, interpolate=False), kernel=7), Reduction.DEPTHWISE),
    (Net(kernel=4), Reduction.DEPTHWISE),
    (Net(kernel=5), Reduction.CONVOLUTION),  # 50 channels of offsets, 32 are held
    (Net(Sampling(offsets=Offsets.PER_TAP)), Reduction.CONVOLUTION),
    (Net(Sampling(offsets=Offsets.MODULATED, interpolate=False)), Reduction.CONVOLUTION),
    (Net(outputs=40), Reduction.CONVOLUTION),  # two outputs of an input
    (Net(groups=10), Reduction.CONVOLUTION),
    (Net(groups=1), Reduction.CONVOLUTION),
])
def test_the_post_unit_takes_what_it_can_and_the_matrix_unit_the_rest(
    net: Net, reduction: Reduction
) -> None:
    graph = net.graph(net.layer(net.x))
    [operation] = lowered(graph)
    assert operation.reduction is reduction
    assert operation.displaced == (reduction is Reduction.DEPTHWISE)
    assert operation.weight is not None
    assert operation.weight.ndim == (3 if operation.displaced else 4)
    if max(net.window.kernel) < 7:  # else its reach passes the buffer
        program = assert_exact(graph, dataclasses.replace(TINY, feature_depth=1024))
        assert bool(displacing(program)) == operation.displaced


def test_taps_that_pass_their_buffer_are_left_to_the_matrix_unit() -> None:
    net = Net(Sampling(offsets=Offsets.SCALED, interpolate=False, minimum=-16, maximum=16),
              kernel=5)
    graph = net.graph(net.layer(net.x))
    for depth, displaced in ((16, False), (32, True)):
        [operation] = lowered(graph, dataclasses.replace(TINY, tap_depth=depth))
        assert operation.displaced == displaced


def test_a_configuration_without_offsets_has_none_in_the_post_unit_either() -> None:
    net = Net()
    with pytest.raises(CompileError, match="'tiny' has no offset memory"):
        compile_graph(net.graph(net.layer(net.x)), dataclasses.replace(TINY, offset_depth=0))


def test_a_tensor_and_offsets_that_do_not_fit_are_refused() -> None:
    net = Net(dataclasses.replace(PER_TAP, fraction_bits=0), size=60)
    with pytest.raises(CompileError, match=r"layer 'layer': its smallest tile, 60x60.*offsets"):
        compile_graph(net.graph(net.layer(net.x)), TINY)


# What stands around it

def test_an_addition_stays_apart_because_offsets_come_as_residuals_do() -> None:
    net = Net(BOUNDED)
    layer = net.layer(net.x)
    other = Tensor(name="y", shape=layer.output.shape, zero_point=-4)
    add = net.nodes.add("add", layer.output, other)
    graph = net.graph(layer, add, inputs=(other,))
    assert [operation.displaced for operation in lowered(graph)] == [True, False]
    assert_exact(graph, TINY)


def test_an_addition_joins_the_other_producer() -> None:
    net = Net(BOUNDED)
    plain = net.nodes.depthwise("plain", net.x, net.window)
    layer = net.layer(net.x)
    add = net.nodes.add("add", plain.output, layer.output)
    assert isinstance(add, Add)
    graph = net.graph(plain, layer, dataclasses.replace(add, rounding=net.nodes.rounding))
    assert [operation.name for operation in lowered(graph)] == ["layer", "add"]
    assert_exact(graph, TINY)


def test_a_table_and_upsampling_join_it() -> None:
    net = Net(BOUNDED)
    layer = net.layer(net.x)
    table = net.nodes.lookup("table", layer.output)
    graph = net.graph(layer, table, net.nodes.upsample("upsample", table.output))
    [operation] = lowered(graph)
    assert operation.displaced
    assert operation.table is not None
    assert operation.upsample
    posts = displacing(assert_exact(graph, TINY))
    assert all(post.table_enable and post.upsample == 0b1111 for post in posts)


def test_upsampling_in_front_of_it_stays_there() -> None:
    net = Net(BOUNDED)
    small = dataclasses.replace(net.x, shape=(20, 6, 6))
    up = net.nodes.upsample("upsample", small)
    layer = net.layer(up.output)
    graph = Graph(name="net", inputs=(small, *net.others), nodes=(up, layer),
                  outputs=(layer.output.name,))
    assert [operation.phased for operation in lowered(graph)] == [False, False]
    assert_exact(graph, TINY)


def test_selected_channels_are_read_where_they_stand_with_the_same_offsets() -> None:
    net = Net(BOUNDED, channels=16)
    parts = [dataclasses.replace(net.x, name=name, shape=(12, 12, 12)) for name in "ab"]
    mixed = net.nodes.select("mixed", parts, np.array(
        [(part, channel) for channel in range(4, 12) for part in range(2)]))
    layer = net.layer(mixed.output)
    last = net.nodes.convolution("last", layer.output, 5, Window(
        layer.output.shape, (1, 1), (1, 1), (1, 1), Padding()))
    graph = Graph(name="net", inputs=(*parts, *net.others), nodes=(mixed, layer, last),
                  outputs=(last.output.name,))
    *pieces, _ = lowered(graph)
    assert {piece.inputs for piece in pieces} == {("a", "offsets"), ("b", "offsets")}
    assert all(piece.displaced and piece.first_group == 1 for piece in pieces)
    assert_exact(graph, TINY)


def test_a_pointwise_layer_behind_it_runs_beside_it() -> None:
    net = Net(BOUNDED, channels=128, size=32)
    layer = net.layer(net.x)
    last = net.nodes.convolution("last", layer.output, 128, Window(
        layer.output.shape, (1, 1), (1, 1), (1, 1), Padding()))
    program = assert_exact(net.graph(layer, last), ULTRA96)
    assert all(len(info.instructions) > 1 for info in program.layers)  # they take turns


# Instructions

@pytest.mark.parametrize("groups", range(1, 10))
@pytest.mark.parametrize("config", [TINY, SMALL, ULTRA96], ids=lambda config: config.name)
def test_an_instruction_computes_up_to_four_lane_groups(
    config: AcceleratorConfig, groups: int
) -> None:
    net = Net(BOUNDED, channels=groups * config.lanes - 1, kernel=2)
    posts = displacing(assert_exact(net.graph(net.layer(net.x)), config))
    most = min(FEATURE_BANKS, config.parameter_depth // 2 // config.lanes)
    assert {post.groups for post in posts} == {
        min(most, groups - first) for first in range(0, groups, most)}
    offset_groups = ceil_div(net.sampling.offset_channels((2, 2)), config.lanes)
    for post in posts:
        assert post.sampling() == net.sampling
        assert post.offset_groups == offset_groups
        assert post.pad_value == net.x.zero_point
        taps = max(4, post.groups) * post.out_height * post.out_width
        assert post_cycles(post) == taps + POST_OVERHEAD


def test_offsets_come_once_for_all_channels() -> None:
    net = Net(channels=256, size=64)
    program = compile_graph(net.graph(net.layer(net.x)), ULTRA96)
    offsets = program.inputs[1]
    size = feature_tensor_bytes(ULTRA96, 64, 64, 18)
    loaded = sum(
        load.run_beats * load.runs * load.blocks * ULTRA96.axi_data_bytes
        for load in program.decoded() if isinstance(load, Load) and load.target == Target.FEATURE
        and offsets.offset <= load.offset < offsets.offset + size)
    assert loaded == size


@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP])
def test_a_layer_takes_a_cycle_for_a_tap_of_four_lane_groups_and_little_more(
    offsets: Offsets,
) -> None:
    net = Net(dataclasses.replace(PER_TAP, offsets=offsets), channels=256, size=64)
    graph = net.graph(net.layer(net.x))
    [operation] = lowered(graph, ULTRA96)
    tiling = choose_tiling(Geometry.of(operation, ULTRA96, graph.tensors()))
    taps = 9 * 64 * 64 * 256 // (FEATURE_BANKS * ULTRA96.lanes)
    assert taps < tiling.cycles < 1.03 * taps
    assert (tiling.channel_groups, tiling.input_slots) == (FEATURE_BANKS, 2)
    [layer] = compile_graph(graph, ULTRA96).layers
    assert layer.estimated_cycles == tiling.cycles


def test_rows_that_come_later_lie_where_the_whole_region_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row strides of any remainder: a load may begin only where banks are those of the start."""
    monkeypatch.setattr(plan, "choose_tiling", lambda *given: dataclasses.replace(
        choose_tiling(*given), band_height=1, order="tile-channel-band"))
    remainders = set()
    for size in range(16, 30, 2):
        net = Net(BOUNDED, size=size, channels=16)
        config = dataclasses.replace(TINY, feature_depth=1024)
        program = assert_exact(net.graph(net.layer(net.x)), config)
        starts = [post.window for post in displacing(program)]
        late = [load for load in program.decoded() if isinstance(load, Load)
                and load.target == Target.FEATURE and load.groups == FEATURE_BANKS
                and load.destination not in starts]
        remainders |= {load.row_stride % FEATURE_BANKS for load in late}
    assert remainders == set(range(FEATURE_BANKS))


# Any layer

@pytest.mark.parametrize("config", [TINY, SMALL, ULTRA96, preset("kv260")],
                         ids=lambda config: config.name)
def test_random_layers_are_exact(config: AcceleratorConfig) -> None:
    seen: set[tuple[str, object]] = set()
    for kind, seed in itertools.product(DISPLACED_KINDS, range(6)):
        graph = random_layer(seed, multiplier_bits=config.multiplier_bits, kind=kind,
                             max_channels=9 * config.lanes)
        try:
            program = assert_exact(graph, config, seed)
        except CompileError:
            assert config is SMALL, "the others hold all of them"
            continue
        posts = displacing(program)
        assert posts
        assert not any(i.offsets for i in program.decoded() if isinstance(i, Matrix))
        seen |= {("kind", kind)} | {("groups", post.groups) for post in posts}
        seen |= {("offsets", post.offsets) for post in posts}
        if kind == "displaced_learned":
            seen.add(("on chip", program.scratch_bytes == 0))
    assert seen >= {("kind", kind) for kind in DISPLACED_KINDS}
    assert seen >= {("offsets", Offsets.SCALED), ("offsets", Offsets.PER_TAP)}
    assert ("on chip", config is not SMALL) in seen
    assert config is SMALL or seen >= {("groups", count) for count in (1, FEATURE_BANKS)}
