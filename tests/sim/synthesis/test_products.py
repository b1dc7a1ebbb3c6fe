"""Products that shall not take DSP slices: their netlist against NumPy, and that they take none."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from amaranth import Module, Signal, signed
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pliant_hw.products import lut_product
from pliant_hw.verilog import flat_ports
from pliant_sim.synthesis import flow, yosys
from pliant_sim.synthesis.rtlil import extract, modules

MAP = Path(str(files("pliant_sim.synthesis") / "products.v"))


class Product(wiring.Component):
    """A product between registers, in look-up tables or wherever the flow puts it."""

    def __init__(self, in_luts):
        self._in_luts = in_luts
        super().__init__({"a": In(signed(8)), "b": In(signed(9)), "y": Out(signed(17))})

    def elaborate(self, platform):
        m = Module()
        a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
        y = Signal.like(self.y, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b),
                     y.eq(lut_product(m, a, b, "product") if self._in_luts else a * b)]
        m.d.comb += self.y.eq(y)
        return m


@pytest.mark.slow
@pytest.mark.parametrize("family", ["xc7", "xcup"])
@pytest.mark.parametrize("in_luts", [False, True])
def test_only_products_not_marked_take_dsp_slices(family, in_luts, tmp_path):
    product = Product(in_luts)
    text = rtlil.convert(product, name="top", ports=flat_ports(product), emit_src=False)
    [netlist] = flow.run([extract(modules(text), "\\top").text], family, tmp_path)
    kinds = [cell["type"] for cell in json.loads(netlist)["modules"]["unit"]["cells"].values()]
    assert sum(kind.startswith("DSP48") for kind in kinds) == (not in_luts)
    assert sum(kind.startswith("LUT") for kind in kinds) <= (60 if in_luts else 0)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "signs"), [
    (8, 8, (1, 1)), (8, 9, (1, 1)), (7, 9, (1, 1)), (7, 10, (0, 0)), (6, 8, (0, 0)),
])
def test_products_are_exact_for_all_operands(a, b, signs, tmp_path):
    kinds = ["signed " if sign else "" for sign in signs]
    (tmp_path / "top.v").write_text(
        f"module top (input {kinds[0]}[{a - 1}:0] a, input {kinds[1]}[{b - 1}:0] b, "
        f"output [{a + b - 1}:0] y); assign y = a * b; endmodule\n")
    shutil.copy(MAP, tmp_path)
    yosys.run(["read_verilog top.v", "chtype -set $__lut_mul t:$mul",
               "techmap -map products.v t:$__lut_mul", "select -assert-none t:$__lut_mul",
               "flatten", "techmap", "aigmap", "opt_clean", "write_json top.json"], tmp_path)
    module = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    operands = np.meshgrid(*(np.arange(1 << bits) - (sign << bits - 1)
                             for bits, sign in zip((a, b), signs, strict=True)))
    values = {"0": np.zeros_like(operands[0], bool), "1": np.ones_like(operands[0], bool)}
    for name, operand in zip("ab", operands, strict=True):
        for place, bit in enumerate(module["ports"][name]["bits"]):
            values[bit] = (operand >> place & 1).astype(bool)
    drivers = {cell["connections"]["Y"][0]: cell for cell in module["cells"].values()}

    def value(bit):
        if bit not in values:
            inputs = drivers[bit]["connections"]
            assert drivers[bit]["type"] in ("$_AND_", "$_NOT_")
            values[bit] = (value(inputs["A"][0]) & value(inputs["B"][0]) if "B" in inputs
                           else ~value(inputs["A"][0]))
        return values[bit]

    found = sum(value(bit).astype(int) << place
                for place, bit in enumerate(module["ports"]["y"]["bits"]))
    assert (found == (operands[0] * operands[1]) & ((1 << a + b) - 1)).all()
