"""One DSP slice of a Xilinx FPGA as a link of a multiply-accumulate cascade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth import ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.numerics import INT8_MIN, WEIGHT_MAX

SUM_BITS = 48
"""Width of the adder, of P and of the cascade in both families."""

MULTIPLICAND_PORT_BITS = 30
"""Width of port A; its lower bits go to the multiplier."""

MULTIPLIER_BITS = 18
"""Width of port B."""


@dataclass(frozen=True, kw_only=True)
class DspFamily:
    """What the slices of an FPGA family differ in, and how two int8 products share one.

    Two weights stand in the multiplicand, ``(high << shift) + low``; after n products the low sum
    is in the lower `shift` bits, the high one above. That is exact while the low sum fits.

    Attributes
    ----------
    name : str
        Name of the primitive.
    multiplicand_bits : int
        Bits of port A that enter the multiplier (UG479, UG579).
    opmode_bits : int
        Width of OPMODE; the lower seven bits mean the same in both families.
    """

    name: str
    multiplicand_bits: int
    opmode_bits: int

    @property
    def shift(self) -> int:
        """Distance of the two weights: the upper one, narrow and less a borrow, is an int8."""
        return self.multiplicand_bits - 8

    @property
    def products(self) -> int:
        """Products of which the low sum fits `shift` signed bits, whatever the operands."""
        return ((1 << (self.shift - 1)) - 1) // (WEIGHT_MAX * -INT8_MIN)


DSP48E1 = DspFamily(name="DSP48E1", multiplicand_bits=25, opmode_bits=7)
"""7 series, Zynq-7000."""

DSP48E2 = DspFamily(name="DSP48E2", multiplicand_bits=27, opmode_bits=9)
"""UltraScale and UltraScale+."""

FAMILIES = {family.name: family for family in (DSP48E1, DSP48E2)}


class DspSlice(wiring.Component):
    """Multiplies a stored weight by an activation and adds a constant or the slice before it.

    All registers are the slice's own: A1 (shadow weight), A2 (active weight), B, M and P. A word of
    `activation` is multiplied by what A2 holds one cycle later; its product is in `sum` three
    cycles later. One word a cycle. The registers have no reset.

    Parameters
    ----------
    family : DspFamily
    constant : int or None
        What the product is added to; None for `cascade_in`.
    primitive : bool
        Instantiate the primitive (for synthesis), or describe what it does (for simulators).

    Members
    -------
    weight : In   for the shadow register
    load : In   `weight` is stored
    swap : In   the shadow weight becomes the active one
    activation : In
    cascade_in : In   `cascade_out` of the slice before
    sum, cascade_out : Out   the same value; the second reaches only the next slice
    """

    weight: Signal
    load: Signal
    swap: Signal
    activation: Signal
    cascade_in: Signal
    sum: Signal
    cascade_out: Signal

    def __init__(self, *, family: DspFamily, constant: int | None, primitive: bool) -> None:
        self._family = family
        self._constant = constant
        self._primitive = primitive
        super().__init__({
            "weight": In(signed(family.multiplicand_bits)),
            "load": In(1),
            "swap": In(1),
            "activation": In(signed(8)),
            "cascade_in": In(signed(SUM_BITS)),
            "sum": Out(signed(SUM_BITS)),
            "cascade_out": Out(signed(SUM_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self._primitive:
            m.submodules.dsp = self._instance(m)
        else:
            self._describe(m)
        return m

    def _describe(self, m: Module) -> None:
        shadow = Signal.like(self.weight, reset_less=True)
        active = Signal.like(self.weight, reset_less=True)
        activation = Signal(signed(8), reset_less=True)
        product = Signal(signed(self._family.multiplicand_bits + 8), reset_less=True)
        total = Signal(signed(SUM_BITS), reset_less=True)
        with m.If(self.load):
            m.d.sync += shadow.eq(self.weight)
        with m.If(self.swap):
            m.d.sync += active.eq(shadow)
        m.d.sync += [
            activation.eq(self.activation),
            product.eq(active * activation),
            total.eq(product + (self.cascade_in if self._constant is None else self._constant)),
        ]
        m.d.comb += [self.sum.eq(total), self.cascade_out.eq(total)]

    def _instance(self, m: Module) -> Instance:
        multiplicand = Signal(signed(MULTIPLICAND_PORT_BITS))
        multiplier = Signal(signed(MULTIPLIER_BITS))
        m.d.comb += [multiplicand.eq(self.weight), multiplier.eq(self.activation)]
        # X and Y take the product. Z takes C or PCIN. ALUMODE 0 adds them.
        opmode = 0b011_01_01 if self._constant is not None else 0b001_01_01
        registers = {
            "AREG": 2, "ACASCREG": 2, "BREG": 1, "BCASCREG": 1, "MREG": 1, "PREG": 1,
            "CREG": 0, "DREG": 0, "ADREG": 0,  # constant or unused, as is all that follows
            "ALUMODEREG": 0, "CARRYINREG": 0, "CARRYINSELREG": 0, "INMODEREG": 0, "OPMODEREG": 0,
        }
        family, off, on = self._family, Const(0, 1), Const(1, 1)
        inputs: dict[str, Any] = {
            "CLK": ClockSignal(),
            "A": multiplicand, "CEA1": self.load, "CEA2": self.swap,
            "B": multiplier, "CEB1": off, "CEB2": on, "CEM": on, "CEP": on,
            "C": Const(self._constant or 0, SUM_BITS),
            "PCIN": self.cascade_in if self._constant is None else Const(0, SUM_BITS),
            "OPMODE": Const(opmode, family.opmode_bits),
            "D": Const(0, family.multiplicand_bits),
            "ACIN": Const(0, MULTIPLICAND_PORT_BITS), "BCIN": Const(0, MULTIPLIER_BITS),
            "ALUMODE": Const(0, 4), "INMODE": Const(0, 5), "CARRYINSEL": Const(0, 3),
            **dict.fromkeys((
                "CARRYIN", "CARRYCASCIN", "MULTSIGNIN",
                "CEAD", "CEALUMODE", "CEC", "CECARRYIN", "CECTRL", "CED", "CEINMODE",
                "RSTA", "RSTALLCARRYIN", "RSTALUMODE", "RSTB", "RSTC", "RSTCTRL", "RSTD",
                "RSTINMODE", "RSTM", "RSTP",
            ), off),
        }
        return Instance(
            family.name,
            **{f"p_{name}": value for name, value in registers.items()},
            **{f"i_{name}": value for name, value in inputs.items()},
            o_P=self.sum, o_PCOUT=self.cascade_out,
        )
