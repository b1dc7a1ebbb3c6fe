import json

import pytest

from pliant_sim.synthesis.depth import LoopError, paths
from pliant_sim.synthesis.netlist import read_netlist
from pliant_sim.synthesis.parts import Box, Part
from pliant_sim.synthesis.rtlil import REGISTER
from pliant_sim.synthesis.timing_graph import DSP_STAGE_LEVELS, MEMORY_LEVELS, graph

OUTPUTS = {"Q", "O", "CO", "P", "DO", "DOADO", "q"}


def part(cells, *, inputs=(), outputs=(), registers=None, boxes=None):
    """Return a part of `cells`: (type, {port: bits}) or (type, {port: bits}, parameters)."""
    ports = {f"in_{bit}": {"direction": "input", "bits": [bit]} for bit in inputs}
    ports |= {f"out_{bit}": {"direction": "output", "bits": [bit]} for bit in outputs}
    module = {
        "ports": ports,
        "cells": {
            f"cell_{index}": {
                "type": cell[0], "parameters": cell[2] if len(cell) > 2 else {},
                "port_directions": {name: "output" if name in OUTPUTS else "input"
                                    for name in cell[1]},
                "connections": cell[1],
            }
            for index, cell in enumerate(cells)
        },
        "netnames": {
            name: {"bits": bits, "hide_name": 0, "attributes": {REGISTER: "1"}}
            for name, bits in (registers or {}).items()
        },
    }
    return Part(read_netlist(json.dumps({"modules": {"unit": module}})), boxes or {}, 0.0)


def register(d, q, enable="1"):
    return "FDRE", {"C": [2], "CE": [enable], "R": ["0"], "D": [d], "Q": [q]}


def lut(output, *inputs):
    ports = {f"I{index}": [bit] for index, bit in enumerate(inputs)}
    return f"LUT{len(inputs)}", {**ports, "O": [output]}


def levels(found):
    return [(path.start, path.end, path.levels) for path in found]


def test_luts_between_two_registers_are_counted():
    chain = part([register(3, 10), lut(11, 10), lut(12, 11, 10), register(12, 13)],
                 inputs=[2, 3], registers={"a": [10], "b": [13]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "b", 2)]


def test_a_path_ends_at_a_register_with_an_enable():
    """Yosys' ltp goes on through it."""
    chain = part([register(3, 10), lut(11, 10), register(11, 12, enable=3), lut(13, 12),
                  register(13, 14)],
                 inputs=[2, 3], registers={"a": [10], "b": [12], "c": [14]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "b", 1), ("b", "c", 1)]


def test_an_enable_is_an_end():
    chain = part([register(3, 10), lut(11, 10), register(3, 12, enable=11)],
                 inputs=[2, 3], registers={"a": [10], "b": [12]})
    (path,) = paths(graph(chain), ports=False)
    assert (path.start, path.end, path.end_kind, path.levels) == ("a", "b", "FDRE.CE", 1)


def test_ports_are_apart_from_registers():
    through = part([lut(11, 3), register(11, 10), lut(12, 10), lut(13, 12)],
                   inputs=[2, 3], outputs=[13], registers={"a": [10]})
    assert paths(graph(through), ports=False) == []
    assert levels(paths(graph(through), ports=True)) == [("a", "out_13", 2), ("in_3", "a", 1)]


def carry(cell_in, select, total, cell_out):
    return "CARRY4", {"CI": [cell_in], "CYINIT": ["0"], "DI": ["0"] * 4, "S": select, "O": total,
                      "CO": cell_out}


def test_a_carry_chain_is_one_level_however_long():
    first = carry("0", [11, "0", "0", "0"], [20, 21, 22, 23], [30, 31, 32, 33])
    second = carry(33, ["0"] * 4, [24, 25, 26, 27], [34, 35, 36, 37])
    chain = part([register(3, 10), lut(11, 10), first, second, lut(40, 27), register(40, 41)],
                 inputs=[2, 3], registers={"a": [10], "b": [41]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "b", 3)]


def test_a_carry_reaches_only_the_bits_above_it():
    adder = carry("0", ["0", "0", 11, "0"], [20, 21, 22, 23], [30, 31, 32, 33])
    low = part([register(3, 10), lut(11, 10), adder, register(21, 40), register(23, 41)],
               inputs=[2, 3], registers={"a": [10], "low": [40], "high": [41]})
    assert levels(paths(graph(low), ports=False)) == [("a", "high", 2)]


def test_a_wide_multiplexer_costs_nothing():
    chain = part([register(3, 10), lut(11, 10), lut(12, 10),
                  ("MUXF7", {"I0": [11], "I1": [12], "S": [10], "O": [13]}), register(13, 14)],
                 inputs=[2, 3], registers={"a": [10], "b": [14]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "b", 1)]


def test_reading_a_memory_of_luts_is_a_level_and_writing_one_an_end():
    memory = ("RAM32X1D", {"WCLK": [2], "WE": [15], "D": ["0"], "A": ["0"], "DPRA": [14],
                           "DO": [11]})
    chain = part([register(3, 10), lut(14, 10), lut(15, 10, 10), memory, lut(12, 11),
                  register(12, 13)],
                 inputs=[2, 3], registers={"a": [10], "read": [11], "b": [13]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "b", 3), ("a", "read", 1)]


def test_delays_inside_block_rams_count_where_asked_for():
    memory = ("RAMB36E2", {"CLKARDCLK": [2], "ADDRARDADDR": [10], "DOADO": [11]})
    chain = part([register(3, 10), memory, lut(12, 11), register(12, 13)],
                 inputs=[2, 3], registers={"a": [10], "read": [11], "b": [13]})
    assert levels(paths(graph(chain), ports=False)) == [("read", "b", 1)]
    (path,) = paths(graph(chain, hard_blocks=True), ports=False)
    assert path.levels == 1 + MEMORY_LEVELS


@pytest.mark.parametrize(("registers", "inside"), [
    ({"AREG": 1, "MREG": 1, "PREG": 1}, 0),
    ({"AREG": 0, "MREG": 1, "PREG": 1}, 1),
    ({"AREG": 0, "MREG": 0, "PREG": 1}, 2),
])
def test_unregistered_stages_of_a_dsp_count_where_asked_for(registers, inside):
    parameters = {name: f"{value:032b}" for name, value in registers.items()}
    dsp = ("DSP48E2", {"CLK": [2], "A": [11], "P": [20]},
           {"USE_MULT": "MULTIPLY", "BREG": f"{0:032b}", **parameters})
    chain = part([register(3, 10), lut(11, 10), dsp], inputs=[2, 3],
                 registers={"a": [10], "p": [20]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "p", 1)]
    (path,) = paths(graph(chain, hard_blocks=True), ports=False)
    assert path.levels == 1 + DSP_STAGE_LEVELS * inside


def test_a_dsp_without_registers_is_passed():
    dsp = ("DSP48E1", {"CLK": [2], "A": [10], "P": [20]},
           {"USE_MULT": "MULTIPLY", **dict.fromkeys(("AREG", "MREG", "PREG"), "0")})
    chain = part([register(3, 10), dsp, lut(21, 20), register(21, 22)],
                 inputs=[2, 3], registers={"a": [10], "b": [22]})
    assert levels(paths(graph(chain), ports=False)) == [("a", "b", 1)]
    assert levels(paths(graph(chain, hard_blocks=True), ports=False)) == [
        ("a", "b", 1 + 2 * DSP_STAGE_LEVELS)]


def test_paths_go_through_parts_that_were_synthesised_apart():
    inner = part([lut(5, 4), lut(6, 5)], inputs=[2, 4], outputs=[6])
    box = Box(inner, {"d": "in_4", "q": "out_6"})
    outer = part([register(3, 10), ("inner", {"d": [10], "q": [11]}), lut(12, 11),
                  register(12, 13)],
                 inputs=[2, 3], registers={"a": [10], "b": [13]}, boxes={"inner": box})
    assert levels(paths(graph(outer), ports=False)) == [("a", "b", 3)]


def test_a_loop_without_a_register_is_an_error():
    with pytest.raises(LoopError):
        paths(graph(part([lut(10, 11), lut(11, 10)], inputs=[2])), ports=False)
