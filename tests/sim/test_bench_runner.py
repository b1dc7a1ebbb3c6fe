import textwrap
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pliant_hw.verilog import component_to_verilog
from pliant_sim.benches.runner import BenchError, icarus_available, port_names, run_bench
from pliant_sim.verilator import VerilatorError

BENCH = """
    import os
    import random
    import cocotb
    from cocotb.clock import Clock
    from cocotb.triggers import FallingEdge

    async def start(dut):
        Clock(dut.clk, 10, "ns").start()
        dut.rst.value, dut.a_valid.value, dut.y_ready.value = 1, 0, 1
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.rst.value = 0

    @cocotb.test()
    async def adds_one(dut):
        await start(dut)
        dut.a_valid.value = 1
        for _ in range(20):
            value = random.randrange(255)
            dut.a_payload.value = value
            await FallingEdge(dut.clk)
            assert dut.y_payload.value == value + int(os.environ["EXPECTED"])

    @cocotb.test()
    async def starts_invalid(dut):
        await start(dut)
        assert not dut.y_valid.value
"""


class Increment(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"a": In(stream.Signature(8)), "y": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.a.ready.eq(self.y.ready)
        m.d.sync += [self.y.payload.eq(self.a.payload + 1), self.y.valid.eq(self.a.valid)]
        return m


@pytest.fixture(scope="module")
def verilog() -> str:
    return component_to_verilog(Increment(), "increment")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "increment_bench.py").write_text(textwrap.dedent(BENCH))
    monkeypatch.syspath_prepend(tmp_path)
    return "increment_bench"


SIMULATORS = ["verilator", pytest.param("icarus", marks=pytest.mark.skipif(
    not icarus_available(), reason="Icarus Verilog is not installed"))]


def test_ports_are_flat_with_single_underscores(verilog: str) -> None:
    assert set(port_names(verilog, "increment")) == {
        "clk", "rst", "a_payload", "a_valid", "a_ready", "y_payload", "y_valid", "y_ready"}
    with pytest.raises(ValueError, match="no module 'other'"):
        port_names(verilog, "other")


def test_ports_are_found_whatever_their_name_begins_with() -> None:
    text = """module core(clk, registers_done, wired, logical, reg_data, level);
  input clk;
  input registers_done;
  output reg wired;
  output wire [3:0] logical;
  input [7:0] reg_data;
  output reg signed [7:0] level;
  reg [7:0] inner;
endmodule
"""
    assert port_names(text, "core") == [
        "clk", "registers_done", "wired", "logical", "reg_data", "level"]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_passing_tests_are_counted(verilog: str, bench: str, simulator: str) -> None:
    environment = {"EXPECTED": "1"}
    assert run_bench(verilog, "increment", bench, environment=environment,
                     simulator=simulator) == 2
    assert run_bench(verilog, "increment", bench, environment=environment,
                     testcase="starts_invalid", simulator=simulator) == 1


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_failure_says_which_test_and_why(verilog: str, bench: str, simulator: str) -> None:
    with pytest.raises(BenchError, match=r"increment_bench on increment \(seed 7, .*\): adds_one"
                                         r"(.|\n)*assert LogicArray") as caught:
        run_bench(verilog, "increment", bench, environment={"EXPECTED": "2"}, seed=7,
                  simulator=simulator)
    assert "starts_invalid:" not in str(caught.value).splitlines()[0]


def test_a_bench_without_tests_or_module_fails(verilog: str, bench: str) -> None:
    with pytest.raises(BenchError, match=r"no test ran|ended early|simulator ended"):
        run_bench(verilog, "increment", bench, testcase="absent")
    with pytest.raises(BenchError, match="no_such_bench"):
        run_bench(verilog, "increment", "no_such_bench")


def test_verilog_that_does_not_compile_is_reported_with_the_message() -> None:
    broken = "module broken(\n  input a,\n  output b\n);\n  assign b = nonsense;\nendmodule\n"
    with pytest.raises(VerilatorError, match="nonsense"):
        run_bench(broken.replace("(\n", "(clk,\n"), "broken", "any")
