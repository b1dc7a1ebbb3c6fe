"""What the Yosys flows make of small designs; slow because Yosys reads its libraries."""

from collections import Counter

import pytest
from amaranth import Module, Signal, signed
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pliant_sim.synthesis import flow
from pliant_sim.synthesis.netlist import read_netlist

pytestmark = pytest.mark.slow


class MultiplyAdd(wiring.Component):
    """A product and a sum, every stage behind a register with an enable."""

    def __init__(self):
        super().__init__({"a": In(signed(8)), "b": In(signed(9)), "c": In(signed(30)),
                          "enable": In(1), "sum": Out(signed(31))})

    def elaborate(self, platform):
        m = Module()
        a, b = Signal(signed(8)), Signal(signed(9))
        product = Signal(signed(17), reset_less=True)
        with m.If(self.enable):
            m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b),
                         self.sum.eq(product + self.c)]
        return m


class LargeMemory(wiring.Component):
    """4096 words of 144 bits, written in halves."""

    def __init__(self):
        super().__init__({"address": In(12), "read": Out(144), "written": In(12), "data": In(144),
                          "enable": In(2)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=144, depth=4096, init=[])
        write, read = memory.write_port(granularity=72), memory.read_port()
        m.d.comb += [write.addr.eq(self.written), write.data.eq(self.data),
                     write.en.eq(self.enable), read.addr.eq(self.address), self.read.eq(read.data)]
        return m


class TwoPorts(wiring.Component):
    """4096 words of 36 bits; one port reads, one writes or reads."""

    def __init__(self, attrs):
        self.attrs = attrs
        super().__init__({"address": In(12), "enable": In(1), "word": Out(36),
                          "other_address": In(12), "write": In(1), "read": In(1),
                          "data": In(36), "other_word": Out(36)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=36, depth=4096, init=[], attrs=self.attrs)
        port, write, other = memory.read_port(), memory.write_port(), memory.read_port()
        m.d.comb += [port.addr.eq(self.address), port.en.eq(self.enable), self.word.eq(port.data),
                     write.addr.eq(self.other_address), write.data.eq(self.data),
                     write.en.eq(self.write), other.addr.eq(self.other_address),
                     other.en.eq(self.read & ~self.write), self.other_word.eq(other.data)]
        return m


def cells(tmp_path, component, family, **options):
    text = rtlil.convert(component, name="unit", emit_src=False)
    return read_netlist(flow.run([text], family, tmp_path, **options)[0]).cells


@pytest.mark.parametrize(("family", "slice_name"), [("xc7", "DSP48E1"), ("xcup", "DSP48E2")])
def test_registers_and_adder_go_into_the_dsp(tmp_path, family, slice_name):
    """The stock flow for UltraScale+ leaves them outside, and so does a techmap too early."""
    (cell,) = cells(tmp_path, MultiplyAdd(), family)
    registers = {name: int(cell.parameters[name], 2) for name in ("AREG", "BREG", "MREG", "PREG")}
    assert cell.type == slice_name
    assert registers == dict.fromkeys(registers, 1)


@pytest.mark.parametrize(("options", "expected"), [
    ({"uram": True}, {"URAM288": 2}), ({"uram": False}, {"RAMB36E2": 16}),
])
def test_large_memories_are_ultra_rams_only_if_asked_for(tmp_path, options, expected):
    kinds = Counter(cell.type for cell in cells(tmp_path, LargeMemory(), "xcup", **options))
    assert {kind: kinds[kind] for kind in expected} == expected
    assert not any(kind.startswith(("RAM32", "RAM64", "FD")) for kind in kinds)


@pytest.mark.parametrize(("attrs", "registers"), [({"rw_addr_collision": "no"}, 0), ({}, 37)])
def test_a_port_that_writes_and_reads_holds_no_word_if_collisions_are_undefined(
    tmp_path, attrs, registers
):
    kinds = Counter(cell.type for cell in cells(tmp_path, TwoPorts(attrs), "xcup"))
    assert kinds["RAMB36E2"] == 4
    assert sum(count for kind, count in kinds.items() if kind.startswith("FD")) == registers


def test_modules_of_one_run_do_not_disturb_one_another(tmp_path):
    text = rtlil.convert(MultiplyAdd(), name="unit", emit_src=False)
    for number, json in enumerate(flow.run([text, text, text], "xc7", tmp_path)):
        assert [cell.type for cell in read_netlist(json).cells] == ["DSP48E1"], number
