"""Registers assigned in their clocked processes: the text, for what Amaranth writes."""

import re

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import preset
from pliant_hw.clocked import clocked
from pliant_hw.verilog import component_to_verilog, generate


class Shared(wiring.Component):
    """A counter that holds, a register with parts, and a next value that is read, too."""

    enable: In(1)
    value: In(8)
    count: Out(8)
    parts: Out(8)
    seen: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.count.eq(self.count + 1)
            with m.If(self.value[0]):
                m.d.sync += self.parts[:4].eq(self.value[4:])
        later = Signal()
        m.d.comb += later.eq(self.value.any())
        m.d.sync += self.seen.eq(later)
        return m


def test_a_register_is_assigned_where_it_is_clocked_and_held_otherwise() -> None:
    text = component_to_verilog(Shared(), "shared")
    assert re.search(r"always @\(posedge clk\) begin\n"
                     r"    if \(enable\) begin\n      count <= \\\$\S+ (?:\[7:0\])?;\n    end\n"
                     r"    if \(rst\) begin\n      count <= 8'h00;\n    end\n  end\n", text), text
    assert re.search(r"parts (?:\[3:0\] )?<= ", text)
    assert "count <= count" not in text
    assert clocked(text) == text


def test_a_next_value_that_something_else_reads_stays() -> None:
    text = """module top(clk, q, r);
  reg [7:0] \\$1 ;
  always @(posedge clk)
    q <= \\$1 ;
  assign r = \\$1 ;
  always @* begin
    if (\\$auto$x$1 ) begin end
    \\$1  = q;
    if (e) begin
      \\$1  = d;
    end
  end
endmodule
"""
    assert clocked(text) == text
    alone = text.replace("  assign r = \\$1 ;\n", "")
    assert clocked(alone) == """module top(clk, q, r);
  always @(posedge clk) begin
    if (e) begin
      q <= d;
    end
  end
endmodule
"""


def test_most_registers_of_a_core_are_written_that_way() -> None:
    text = generate(preset("tiny"))
    moved = len(re.findall(r"^  always @\(posedge \S+\) begin$", text, re.MULTILINE))
    left = len(re.findall(r"^  always @\(posedge \S+\)\n    \S+ <= \\\$\S+ ;$", text, re.MULTILINE))
    assert moved > 1000
    assert left < moved / 20
