import dataclasses

import pytest

from pliant.compiler import compile_graph
from pliant.spec.config import preset
from pliant.spec.isa import End, Instruction, Load, Matrix, Post, Store, Unit
from pliant.spec.program import LayerInfo, Program
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim.core import Event, RtlError
from pliant_sim.layer_cycles import STALLS, layer_cycles
from pliant_sim.rtl import RtlMachine

CONFIG = preset("tiny")
LOAD, MATRIX, POST, STORE = (1 << unit for unit in Unit)


def program(*layers: tuple[int, list[Instruction]]) -> Program:
    """Return a program of layers, each given by its useful MACs and its instructions."""
    instructions: list[Instruction] = []
    infos = []
    for index, (macs, own) in enumerate(layers):
        start = len(instructions)
        instructions += own
        infos.append(LayerInfo(name=f"layer{index}", kind="convolution", macs=macs,
                               estimated_cycles=100,
                               instructions=((start, len(instructions)),), output=None))
    return Program(
        network="net", config_name=CONFIG.name, fingerprint=CONFIG.fingerprint,
        instructions=b"".join(item.encode() for item in [*instructions, End()]), constants=b"",
        scratch_bytes=0, inputs=(), outputs=(), layers=tuple(infos))


def events(*spans: tuple[Unit, int, int]) -> list[Event]:
    found = [Event(cycle, unit, done) for unit, start, end in spans
             for cycle, done in ((start, False), (end, True))]
    return sorted(found, key=lambda event: event.cycle)


def test_every_cycle_is_accounted_for_by_its_cause():
    tile = Matrix(wait=LOAD, signal=POST, out_height=5, out_width=8)
    net = program((1000, [
        Load(signal=MATRIX, run_beats=7), tile, Post(wait=MATRIX, signal=STORE),
        Store(wait=POST, run_beats=2)]))
    (layer,) = layer_cycles(net, CONFIG, events(
        (Unit.LOAD, 20, 50), (Unit.MATRIX, 52, 100), (Unit.POST, 103, 120),
        (Unit.STORE, 121, 130)), cycles=125)
    useful = 1000 / CONFIG.peak_macs_per_cycle
    assert layer.cycles == 125
    assert layer.utilization == useful / 125
    assert layer.ddr_bytes == 9 * CONFIG.axi_data_bytes + 4 * 64
    assert layer.stalls == {
        "issue": 20 - 5 + 2 + 3 + 1, "load": 30, "pass": 48 - 40, "unused": round(40 - useful),
        "post": 17, "store": 9}


def test_the_unit_at_work_on_the_critical_path_is_blamed():
    """The second tile's load must wait for the post-processor to free its place."""
    tile = Matrix(wait=LOAD, signal=POST, out_height=10)
    net = program((0, [
        Load(signal=MATRIX), tile, Post(wait=MATRIX, signal=LOAD),
        Load(wait=POST, signal=MATRIX), tile]))
    (layer,) = layer_cycles(net, CONFIG, events(
        (Unit.LOAD, 0, 10), (Unit.MATRIX, 10, 20), (Unit.POST, 20, 55), (Unit.LOAD, 55, 75),
        (Unit.MATRIX, 75, 85)), cycles=85)
    assert layer.stalls == {"unused": 20, "pass": 0, "load": 10 + 20, "post": 35, "store": 0,
                            "issue": 0}


def test_cycles_go_to_the_layer_in_whose_time_they_fall():
    first = [Load(signal=MATRIX), Matrix(wait=LOAD, signal=STORE, out_height=10),
             Store(wait=MATRIX, signal=LOAD)]
    second = [Load(wait=STORE, signal=MATRIX), Matrix(wait=LOAD, out_height=20)]
    net = program((160, first), (320, second))
    layers = layer_cycles(net, CONFIG, events(
        (Unit.LOAD, 0, 10), (Unit.MATRIX, 10, 20), (Unit.STORE, 20, 60), (Unit.LOAD, 60, 90),
        (Unit.MATRIX, 90, 115)), cycles=115)
    assert [layer.cycles for layer in layers] == [60, 55]
    assert [layer.stalls["store"] for layer in layers] == [40, 0]
    assert [layer.stalls["load"] for layer in layers] == [10, 30]
    assert [layer.stalls["pass"] for layer in layers] == [0, 5]


def interleaved() -> Program:
    """Two layers whose steps take turns, the second's loads ahead of the first, and a third."""
    net = program((160, [Load(signal=MATRIX), Matrix(wait=LOAD, signal=POST, out_height=10),
                         Post(wait=MATRIX), Matrix(signal=POST, out_height=10)]),
                  (320, [Post(wait=MATRIX), Store(), Load(signal=MATRIX)]),
                  (480, [Matrix(wait=LOAD, signal=STORE, out_height=20), Store(wait=MATRIX)]))
    first, second, third = net.layers
    return dataclasses.replace(net, layers=(
        dataclasses.replace(first, instructions=((0, 2), (3, 4))),
        dataclasses.replace(second, kind="depthwise", instructions=((2, 3), (4, 6))),
        dataclasses.replace(third, instructions=((6, 9),))))


INTERLEAVED_EVENTS = events(
    (Unit.LOAD, 0, 10), (Unit.LOAD, 10, 15), (Unit.MATRIX, 10, 20), (Unit.MATRIX, 20, 30),
    (Unit.MATRIX, 42, 62), (Unit.POST, 20, 25), (Unit.POST, 30, 40), (Unit.STORE, 40, 50),
    (Unit.STORE, 62, 70))


def test_layers_whose_instructions_take_turns_share_an_entry():
    shared, alone = layer_cycles(interleaved(), CONFIG, INTERLEAVED_EVENTS, cycles=70)
    assert (shared.name, shared.kind) == ("layer0 | layer1", "convolution | depthwise")
    assert (shared.layers, alone.layers) == (2, 1)
    assert (shared.macs, shared.estimated_cycles) == (160 + 320, 200)
    assert shared.utilization == 480 / (CONFIG.peak_macs_per_cycle * 50)
    assert shared.ddr_bytes == 2 * CONFIG.axi_data_bytes + 6 * 64
    assert alone.name == "layer2"


def test_a_shared_entry_ends_with_its_last_instruction():
    shared, alone = layer_cycles(interleaved(), CONFIG, INTERLEAVED_EVENTS, cycles=70)
    assert (shared.cycles, alone.cycles) == (50, 20)  # the store of the second layer ends at 50
    assert shared.stalls["load"] == 10
    assert shared.stalls["issue"] == 12


def test_loads_ahead_of_another_layer_do_not_join_it():
    net = interleaved()
    first, second, third = net.layers
    early = dataclasses.replace(net, layers=(
        dataclasses.replace(first, instructions=((1, 2), (3, 4))), second,
        dataclasses.replace(third, instructions=((0, 1), (6, 9)))))
    assert [layer.layers for layer in layer_cycles(
        early, CONFIG, INTERLEAVED_EVENTS, cycles=70)] == [2, 1]


def test_instructions_that_overlap_are_not_counted_twice():
    net = program((0, [Matrix(out_height=30), Matrix(out_height=40)]))
    (layer,) = layer_cycles(net, CONFIG, events(
        (Unit.MATRIX, 0, 40), (Unit.MATRIX, 32, 84)), cycles=84)
    assert layer.stalls["pass"] == 84 - 70
    assert layer.stalls["unused"] == 70


def test_events_of_another_program_are_refused():
    net = program((0, [Load(), Matrix()]))
    with pytest.raises(RtlError, match="unit MATRIX"):
        layer_cycles(net, CONFIG, events((Unit.LOAD, 0, 10)), cycles=10)


@pytest.mark.parametrize("kind", ["convolution", "convolution_add_input", "branches", "max_pool"])
def test_layers_of_a_run_add_up_to_its_counters(kind):
    graph = random_layer(11, multiplier_bits=CONFIG.multiplier_bits, kind=kind)
    inputs = random_inputs(graph, 11)
    compiled = compile_graph(graph, CONFIG, keep_tensors=True)
    with RtlMachine(CONFIG) as machine:
        run = machine.run(compiled, [inputs[t.name][0] for t in graph.inputs], trace=True)
    layers = layer_cycles(compiled, CONFIG, run.events, run.cycles)
    assert sum(layer.cycles for layer in layers) == run.cycles
    stalled = sum(sum(layer.stalls.values()) for layer in layers)
    useful = compiled.macs / CONFIG.peak_macs_per_cycle
    assert stalled + useful == pytest.approx(run.cycles, abs=len(STALLS) * len(layers))
    active = useful + sum(layer.stalls["unused"] for layer in layers)
    assert active == pytest.approx(run.counters["matrix_active"], abs=len(layers))
    moved = run.counters["read_beats"] + run.counters["write_beats"]
    end = 64  # the End instruction belongs to no layer
    assert sum(layer.ddr_bytes for layer in layers) + end == moved * CONFIG.axi_data_bytes
