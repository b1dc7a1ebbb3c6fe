"""From RTLIL to a netlist of the device's cells: the Yosys commands for each family."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pliant_sim.synthesis import yosys

FLOW_VERSIONS = {"xc7": 2, "xcup": 3}
"""By family; to be raised with every change here: part of the key of cached netlists."""

URAM_DEPTH = 4096
"""Words from which a memory is put into UltraRAM, where the device has it: the depth of one."""

URAM_BITS = 288 * 1024
"""Bits from which a memory is put into UltraRAM: the size of one."""

_UNIT = re.compile(r"^(module |  cell )\\unit(?=[.\s])", re.MULTILINE)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) ", re.MULTILINE)
_NO_COLLISION = re.compile(
    r'^  attribute \\rw_addr_collision "no"\n(?:  attribute .*\n)*  memory .* (\\\S+)$',
    re.MULTILINE)
_READ_PORT = re.compile(
    r'(    parameter \\MEMID "\\(\\\S+)"\n(?:    parameter .*\n)*?'
    r"    parameter \\COLLISION_X_MASK (\d+)')0+$", re.MULTILINE)

_E1_INTEGERS = ("ACASCREG", "ADREG", "ALUMODEREG", "AREG", "BCASCREG", "BREG", "CARRYINREG",
                "CARRYINSELREG", "CREG", "DREG", "INMODEREG", "MREG", "OPMODEREG", "PREG")
_E1_STRINGS = ("A_INPUT", "B_INPUT", "USE_MULT", "USE_SIMD")
_E1_OUTPUTS = {"ACOUT": 30, "BCOUT": 18, "CARRYCASCOUT": 1, "CARRYOUT": 4, "MULTSIGNOUT": 1,
               "P": 48, "PCOUT": 48}
_E1_INPUTS = {"A": 30, "ACIN": 30, "ALUMODE": 4, "B": 18, "BCIN": 18, "C": 48, "CARRYCASCIN": 1,
              "CARRYIN": 1, "CARRYINSEL": 3, "CLK": 1, "INMODE": 5, "MULTSIGNIN": 1, "PCIN": 48}
_E1_CONTROLS = ("CEA1", "CEA2", "CEAD", "CEALUMODE", "CEB1", "CEB2", "CEC", "CECARRYIN", "CECTRL",
                "CED", "CEINMODE", "CEM", "CEP", "RSTA", "RSTALLCARRYIN", "RSTALUMODE", "RSTB",
                "RSTC", "RSTCTRL", "RSTD", "RSTINMODE", "RSTM", "RSTP")


def _product_map() -> str:
    """Return the techmap from a 27x18 product to a DSP48E1-shaped cell.

    The E1's own multiplier takes 25 bits of A, but nothing that follows depends on that.
    """
    lines = [
        r"module \$__MUL27X18 (input [26:0] A, input [17:0] B, output [44:0] Y);",
        "parameter A_SIGNED = 0; parameter B_SIGNED = 0;",
        "parameter A_WIDTH = 0; parameter B_WIDTH = 0; parameter Y_WIDTH = 0;",
        "wire [47:0] P; assign Y = P;",
        "DSP48E1 #(" + ", ".join(f".{name}(0)" for name in _E1_INTEGERS) + ","
        '.A_INPUT("DIRECT"), .B_INPUT("DIRECT"), .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"),'
        '.USE_DPORT("FALSE")) _TECHMAP_REPLACE_ (',
        ".A({{3{A[26]}}, A}), .B(B), .C(48'b0), .D(25'b0), .P(P), .INMODE(5'b0),",
        ".ALUMODE(4'b0), .OPMODE(7'b0000101), .CARRYINSEL(3'b0), .ACIN(30'b0), .BCIN(18'b0),",
        ".PCIN(48'b0), .CARRYIN(1'b0));",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def _slice_map() -> str:
    """Return the techmap from a DSP48E1-shaped cell to a DSP48E2.

    It is a file of its own: techmap goes on with what it has made, and the cells have to stay E1
    until their registers are packed.
    """
    inputs = {**_E1_INPUTS, **dict.fromkeys(_E1_CONTROLS, 1)}
    ports = [*_E1_OUTPUTS, *inputs, "OPMODE", "D"]
    same = [*_E1_OUTPUTS, *inputs]
    lines = [
        f"module DSP48E1 ({', '.join(ports)});",
        *(f"parameter {name} = 0;" for name in _E1_INTEGERS),
        *(f'parameter {name} = "";' for name in (*_E1_STRINGS, "USE_DPORT")),
        *(f"output [{width - 1}:0] {name};" for name, width in _E1_OUTPUTS.items()),
        *(f"input [{width - 1}:0] {name};" for name, width in inputs.items()),
        "input [6:0] OPMODE; input [24:0] D;",
        "DSP48E2 #(" + ", ".join(f".{name}({name})" for name in (*_E1_INTEGERS, *_E1_STRINGS)) + ","
        '.AMULTSEL(USE_DPORT == "TRUE" ? "AD" : "A"), .BMULTSEL("B")) _TECHMAP_REPLACE_ (',
        ", ".join(f".{name}({name})" for name in same) + ",",
        ".OPMODE({2'b00, OPMODE}), .D({{2{D[24]}}, D}));",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


_MARK_PRODUCTS = [
    "select -set products a:use_dsp=no %ci1 t:$mul %i",
    'setattr -set use_dsp "no" @products',
]
"""Hands the attribute ``use_dsp = "no"`` from a wire to the multiplication that drives it."""

_MAP_PRODUCTS = [
    "chtype -set $__lut_mul a:use_dsp=no t:$mul %i",
    "techmap -map products.v t:$__lut_mul",
    "chtype -set $__soft_mul t:$__lut_mul",
]
"""Keeps marked multiplications out of DSPs; the stock flow makes those left over ``$mul`` again."""


def _ultrascale(begin: str) -> list[str]:
    """Return the mapping of multipliers for UltraScale+, and what follows it.

    The stock flow leaves the DSP48E2 without registers. So they are packed as DSP48E1.
    """
    return [
        "memory_dff",
        r"techmap -map +/mul2dsp.v -map product_map.v -D DSP_A_MAXWIDTH=27 -D DSP_B_MAXWIDTH=18 "
        r"-D DSP_A_MAXWIDTH_PARTIAL=18 -D DSP_A_MINWIDTH=2 -D DSP_B_MINWIDTH=2 "
        r"-D DSP_Y_MINWIDTH=9 -D DSP_SIGNEDONLY=1 -D DSP_NAME=$__MUL27X18 t:$mul t:$__MUL27X18",
        "select a:mul2dsp", "setattr -unset mul2dsp", "opt_expr -fine", "wreduce", "select -clear",
        "xilinx_dsp -family xc7",
        "chtype -set $mul t:$__soft_mul",
        "techmap -map slice_map.v t:DSP48E1",
        f"{begin} -run coarse:",
    ]


def run(
    texts: Sequence[str], family: str, directory: Path, *, uram: bool = False
) -> list[str]:
    """Synthesise several modules, each flattened and out of context; return their JSON.

    One run of Yosys reads its libraries once for all; the modules do not see one another.

    Parameters
    ----------
    texts : Sequence of str
        For each module what :func:`~pliant_sim.synthesis.rtlil.extract` returns.
    family : str
        ``xc7`` or ``xcup``.
    directory : Path
        Empty; for files of the run.
    uram : bool
        Put memories of URAM_DEPTH words and URAM_BITS bits or more into UltraRAM.
    """
    top = ["module \\every\n"]
    for index, text in enumerate(texts):
        text = _let_collide(_UNIT.sub(rf"\1\\unit{index}", text))
        if uram:
            text = _MEMORY.sub(_choose_memory, text)
        text = text.replace(f"module \\unit{index}\n",
                            f"attribute \\keep_hierarchy 1\nmodule \\unit{index}\n")
        (directory / f"unit{index}.il").write_text(text)
        top.append(f"  attribute \\keep 1\n  cell \\unit{index} \\part{index}\n  end\n")
    (directory / "every.il").write_text("".join([*top, "end\n"]))
    (directory / "product_map.v").write_text(_product_map())
    (directory / "slice_map.v").write_text(_slice_map())
    shutil.copy(Path(__file__).parent / "products.v", directory)
    begin = f"synth_xilinx -family {family} -flatten -noiopad -noclkbuf -top every"
    if uram:
        begin += " -uram"
    rest = [f"{begin} -run map_dsp:"] if family == "xc7" else _ultrascale(begin)
    body = [*_MARK_PRODUCTS, f"{begin} -run begin:map_dsp", *_MAP_PRODUCTS, *rest]
    files = [f"read_rtlil unit{index}.il" for index in range(len(texts))]
    yosys.run([*files, "read_rtlil every.il", *body, "delete t:$scopeinfo",
               "write_json every.json"], directory)
    modules = json.loads((directory / "every.json").read_text())["modules"]
    return [_module(modules[f"unit{index}"], f"unit{index}") for index in range(len(texts))]


def _module(module: dict[str, Any], name: str) -> str:
    """Return one module of a JSON netlist, under the name it has in its RTLIL."""
    for cell in module["cells"].values():
        if cell["type"].startswith(f"{name}."):
            cell["type"] = "unit" + cell["type"].removeprefix(name)
    return json.dumps({"modules": {"unit": module}})


def _let_collide(text: str) -> str:
    """Leave open what a read finds of a word that is written at the same time, where told.

    Vivado's attribute ``rw_addr_collision = "no"`` (UG901) of a memory tells it; RTLIL has it with
    each read port. Otherwise the word must be the old one, and a port that reads and writes is
    given registers that hold what it has read.
    """
    def undefined(port: re.Match[str]) -> str:
        return port[1] + ("1" * int(port[3]) if port[2] in memories else "0" * int(port[3]))

    modules = re.split(r"(?m)^(?=module )", text)
    for index, module in enumerate(modules):
        memories = set(_NO_COLLISION.findall(module))
        if memories:
            modules[index] = _READ_PORT.sub(undefined, module)
    return "".join(modules)


def _choose_memory(match: re.Match[str]) -> str:
    width, depth = int(match[1]), int(match[2])
    large = depth >= URAM_DEPTH and width * depth >= URAM_BITS
    return f'  attribute \\ram_style "{"ultra" if large else "auto"}"\n{match[0]}'
