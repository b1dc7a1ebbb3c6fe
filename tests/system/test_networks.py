"""Whole networks: integer graph == instruction simulator == RTL in every layer."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pliant.compiler.graph import Graph
from pliant.spec.config import preset
from pliant_models.networks import detector_graph, integer_graph
from pliant_sim.bench import BenchResult, bench

TINY = {"width": 0.125, "size": 32, "classes": 10}
TINY_LAYERS = {"vgg16": 21, "resnet18": 22, "resnet50": 55, "mobilenetv2": 53}
"""Layers with a result in memory: an addition and the layer before it are one, and so are the mean
over a single pixel and the addition before it."""


def run(name: str, config: str, layers: int, **variant: float) -> BenchResult:
    graph, images = integer_graph(name, **variant)
    return check(graph, images, config, layers)


def check(graph: Graph, images: NDArray[np.int8], config: str, layers: int) -> BenchResult:
    result = bench(graph, images[0], preset(config))
    differences = [str(item) for level in result.comparisons for item in level.differences]
    assert differences == []
    tensors = layers + len(graph.outputs)  # of the program that keeps them, and of the one timed
    assert [level.tensors for level in result.comparisons] == [tensors, tensors]
    assert result.bit_exact
    return result


@pytest.mark.parametrize("config", ["tiny", "pynq_z2"])
@pytest.mark.parametrize("name", TINY_LAYERS)
def test_narrow_networks_give_the_same_integers_in_every_layer(name: str, config: str) -> None:
    run(name, config, TINY_LAYERS[name], **TINY)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers", "macs", "utilization"), [
    ("resnet18", 23, 1_680_390_912, 0.85),
    ("mobilenetv2", 54, 299_676_304, 0.42),
])
def test_whole_networks_on_the_rtl(
    name: str, layers: int, macs: int, utilization: float
) -> None:
    result = run(name, "ultra96", layers)
    assert result.macs == macs
    assert result.utilization > utilization


@pytest.mark.slow
def test_codenet_on_the_rtl() -> None:
    graph, images = detector_graph("codenet_a", images=1)
    result = check(graph, images, "ultra96", 70)
    assert result.cycles < 950_000
