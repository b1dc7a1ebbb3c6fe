"""One layer on the RTL: its figures, with weights of 8 and of 4 bits."""

import numpy as np
import pytest

from pliant.spec.config import preset
from pliant.spec.memory import pack_weights
from pliant_sim.rtl import RtlMachine
from pliant_sim.single_layer import LayerSize, layer_graph, main, run_single_layer

TINY = preset("tiny")


@pytest.fixture(scope="module")
def machine() -> RtlMachine:
    return RtlMachine(TINY)


@pytest.mark.parametrize("kernel", [1, 3])
def test_weights_of_4_bits_are_half_the_bytes_of_8(machine: RtlMachine, kernel: int) -> None:
    found = {}
    for bits in (8, 4):
        layer = LayerSize(12, 20, kernel, 6, bits)
        [node] = layer_graph(layer).nodes
        assert np.abs(node.weight).max() == {8: 127, 4: 7}[bits]
        found[bits] = run_single_layer(machine, layer)
        assert found[bits].equal
        packed = pack_weights(TINY, node.weight, narrow=bits == 4)
        assert found[bits].weight_bytes == packed.nbytes
    assert found[8].weight_bytes == 2 * found[4].weight_bytes
    assert found[8].macs == found[4].macs
    assert found[4].cycles <= found[8].cycles


def test_a_layer_that_waits_for_weights_is_faster_with_4_bits(machine: RtlMachine) -> None:
    cycles = [run_single_layer(machine, LayerSize(256, 64, 1, 1, bits)).cycles for bits in (8, 4)]
    assert cycles[1] < 0.8 * cycles[0]


def test_the_comparison_names_layers_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main("tiny", "8x8x1x4")
    wide, narrow = capsys.readouterr().out.splitlines()
    assert wide.startswith("8->8 1x1 4x4: ")
    assert narrow.startswith("8->8 1x1 4x4 int4: ")
    assert "64 bytes of weights" in wide
    assert "32 bytes of weights" in narrow
    assert wide.endswith("equal True")
    assert narrow.endswith("equal True")
