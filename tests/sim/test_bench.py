import dataclasses

import numpy as np
import pytest

from pliant.compiler import CompileError
from pliant.spec.config import preset
from pliant_models.random_layers import random_inputs, random_layer
from pliant_sim import bench as module
from pliant_sim.bench import RTL, SIMULATOR, bench
from pliant_sim.core import MemoryTiming
from pliant_sim.rtl import RtlMachine

CONFIG = preset("tiny")


def network(seed: int = 4, kind: str = "branches"):
    graph = random_layer(seed, multiplier_bits=CONFIG.multiplier_bits, kind=kind)
    return graph, random_inputs(graph, seed)["x"][0]


def test_figures_follow_from_the_run():
    graph, image = network()
    seen = []
    result = bench(graph, image, CONFIG, progress=lambda *stage: seen.append(stage))
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
    assert {level.level: level.tensors for level in result.comparisons} == {SIMULATOR: 2, RTL: 2}
    assert seen[0] == ("compile", 0, 1)
    assert seen[-1] == ("run the RTL", result.instructions, result.instructions)


@pytest.mark.parametrize("level", [SIMULATOR, RTL])
def test_a_wrong_integer_is_found_and_named(level, monkeypatch):
    graph, image = network()
    name = graph.outputs[0]
    if level == RTL:
        read = RtlMachine.read_tensor

        def wrong(self, tensor, run=None):
            value = read(self, tensor, run)
            if tensor == name:
                value[0, 0, 0] ^= 1
            return value

        monkeypatch.setattr(RtlMachine, "read_tensor", wrong)
    else:
        class Wrong(module.InstructionSimulator):
            def run(self, program, inputs):
                result = super().run(program, inputs)
                tensors = {**result.tensors, name: result.tensors[name] ^ np.int8(1)}
                return dataclasses.replace(result, tensors=tensors)

        monkeypatch.setattr(module, "InstructionSimulator", Wrong)
    result = bench(graph, image, CONFIG)
    assert not result.bit_exact
    (difference,) = [item for part in result.comparisons for item in part.differences]
    assert (difference.level, difference.tensor) == (level, name)
    assert difference.differing == (1 if level == RTL else difference.values)


def test_what_does_not_compile_is_refused_by_layer():
    graph, image = network()
    node = dataclasses.replace(graph.nodes[0], stride=(99, 99))
    with pytest.raises(CompileError, match=node.name):
        bench(graph.replace(nodes=(node, *graph.nodes[1:])), image, CONFIG)
