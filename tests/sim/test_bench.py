import dataclasses

import numpy as np
import pytest

from pliant.compiler import CompileError, compile_graph
from pliant.spec.config import preset
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim import bench as module
from pliant_sim.bench import BenchResult, bench
from pliant_sim.comparison import RTL, SIMULATOR, Difference
from pliant_sim.core import MemoryTiming
from pliant_sim.rtl import RtlMachine

CONFIG = preset("tiny")


def network(seed: int = 4, kind: str = "branches"):
    graph = random_layer(seed, multiplier_bits=CONFIG.multiplier_bits, kind=kind)
    return graph, random_inputs(graph, seed)["x"][0]


def test_figures_follow_from_the_run():
    graph, image = network()
    seen = []
    result = bench(graph, image, CONFIG, float_run=lambda: sum(range(20_000)),
                   progress=lambda *stage: seen.append(stage))
    assert result.network == graph.name
    assert result.config == "tiny"
    assert result.bit_exact
    assert result.cycles == result.counters["cycles"]
    assert sum(layer.macs for layer in result.layers) == result.macs
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    assert result.utilization == result.macs / (32 * result.cycles)
    assert sum(layer.estimated_cycles for layer in result.layers) == result.estimated_cycles
    assert result.estimate_error == result.estimated_cycles / result.cycles - 1
    errors = [layer.estimated_cycles / layer.cycles - 1 for layer in result.layers]
    assert result.median_layer_error == np.median(np.abs(errors))
    assert result.rtl_kilocycles_per_second == result.cycles / result.rtl_seconds / 1e3
    assert result.memory == MemoryTiming.of_board(CONFIG)
    assert {level.level: level.tensors for level in result.comparisons} == {SIMULATOR: 3, RTL: 3}
    assert result.simulator_seconds > 0
    assert result.float_seconds > 0
    assert result.simulator_slowdown == result.simulator_seconds / result.float_seconds
    assert seen[0] == ("compile", 0, 1)
    assert seen[-1] == ("run the RTL", result.instructions, result.instructions)


@pytest.mark.parametrize("keeping", [False, True])
def test_a_wrong_integer_of_the_simulator_is_found_and_named(keeping, monkeypatch):
    graph, image = network()
    name = graph.outputs[0]

    class Wrong(module.InstructionSimulator):
        def run(self, program, inputs):
            result = super().run(program, inputs)
            if keeping != bool(program.kept):
                return result
            if keeping:
                tensors = {**result.tensors, name: result.tensors[name] ^ np.int8(1)}
                return dataclasses.replace(result, tensors=tensors)
            return dataclasses.replace(result, outputs=[result.outputs[0] ^ np.int8(1)])

    monkeypatch.setattr(module, "InstructionSimulator", Wrong)
    difference = only_difference(bench(graph, image, CONFIG))
    assert (difference.level, difference.tensor) == (SIMULATOR, name)
    assert difference.differing == difference.values


@pytest.mark.parametrize("keeping", [False, True])
def test_a_wrong_integer_of_the_rtl_is_found_and_named(keeping, monkeypatch):
    graph, image = network()
    name = graph.outputs[0]
    run, read = RtlMachine.run, RtlMachine.read_tensor

    def wrong_run(self, program, inputs, **options):
        result = run(self, program, inputs, **options)
        if not program.kept:
            result.outputs[0][0, 0, 0] ^= 1
        return result

    def wrong_read(self, tensor, run=None):
        value = read(self, tensor, run)
        if tensor == name:
            value[0, 0, 0] ^= 1
        return value

    if keeping:
        monkeypatch.setattr(RtlMachine, "read_tensor", wrong_read)
    else:
        monkeypatch.setattr(RtlMachine, "run", wrong_run)
    difference = only_difference(bench(graph, image, CONFIG))
    assert (difference.level, difference.tensor, difference.differing) == (RTL, name, 1)


def only_difference(result: BenchResult) -> Difference:
    assert not result.bit_exact
    (difference,) = [item for part in result.comparisons for item in part.differences]
    return difference


def test_figures_are_those_of_the_program_that_ships():
    graph, image = network()
    result = bench(graph, image, CONFIG)
    program = compile_graph(graph, CONFIG)
    with RtlMachine(CONFIG) as machine:
        run = machine.run(program, [image])
    assert not program.kept
    assert (result.cycles, result.counters) == (run.cycles, run.counters)
    assert result.instructions == len(program.decoded())


def test_what_does_not_compile_is_refused_by_layer():
    graph, image = network()
    node = dataclasses.replace(graph.nodes[0], stride=(99, 99))
    with pytest.raises(CompileError, match=node.name):
        bench(graph.replace(nodes=(node, *graph.nodes[1:])), image, CONFIG)
