"""The core in RTLIL, and its modules one by one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from amaranth.back import rtlil  # type: ignore[attr-defined]  # the stubs lack it

from pliant.spec.config import AcceleratorConfig
from pliant_hw.array import MatrixArray
from pliant_hw.dsp import FAMILIES
from pliant_hw.packed_array import packed
from pliant_hw.top import PliantCore
from pliant_hw.verilog import flat_ports
from pliant_sim.cache import cache_directory, kept
from pliant_sim.hardware_version import HARDWARE_VERSION

REGISTER = "pliant_register"
"""Attribute of wires that registers drive; it survives synthesis and gives cells their names."""

_MODULE = re.compile(r"(?:^attribute [^\n]*\n)*^module (\\\S+)\n.*?^end\n",
                     re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_PORT = re.compile(
    r"^  wire (?:width \d+ )?(?:signed )?(?:input|output) (\d+)\s+(?:signed )?\\(\S+)$")
_REGISTER_CELLS = re.compile(r"\$_?[as]*dffe?")
_WIRE = re.compile(r"(\\\S+)")
_NUMBER = re.compile(r"\$(\d+)")
_ELEMENT = re.compile(r"(?<=\S)\[(\d+)\]")


@dataclass(frozen=True)
class Module:
    """One module: its text, and the modules of its submodules by instance name."""

    name: str
    text: str
    children: Mapping[str, str]


def core_rtlil(config: AcceleratorConfig, dsp: str | None, *, primitive: bool = True) -> str:
    """Return the RTLIL of the accelerator, generated once for each configuration and source.

    Parameters
    ----------
    config : AcceleratorConfig
        What to generate.
    dsp : str or None
        DSP slice of the packed matrix array: a name of :data:`pliant_hw.dsp.FAMILIES`; None for the
        plain array.
    primitive : bool
        Instantiate that slice, or describe what it does, for devices that have no such slice.
    """
    key = hashlib.sha256(
        f"{config.fingerprint:016x} {config.board.dsp_slices} {dsp} {primitive} "
        f"{HARDWARE_VERSION}".encode()).hexdigest()
    path = cache_directory() / "synthesis" / f"{config.name}-{key[:20]}.il"
    return kept(path, lambda: _generate(config, dsp, primitive).encode()).decode()


def _generate(config: AcceleratorConfig, dsp: str | None, primitive: bool) -> str:
    array = MatrixArray if dsp is None else packed(FAMILIES[dsp], primitive=primitive)
    core = PliantCore(config=config, array=array)
    text: str = rtlil.convert(core, name="pliant_core", ports=flat_ports(core), emit_src=False)
    return text


def modules(text: str) -> dict[str, Module]:
    """Return the modules of RTLIL `text` by name, with their register wires marked."""
    texts = {match[1]: match[0] for match in _MODULE.finditer(text)}
    result = {}
    for name, body in texts.items():
        cells = list(_CELL.finditer(body))
        children = {cell[2]: cell[1] for cell in cells if cell[1] in texts}
        result[name] = Module(name, _mark_registers(body, cells), children)
    return result


def _mark_registers(body: str, cells: list[re.Match[str]]) -> str:
    """Mark the wires that flip-flops and clocked read ports of memories drive."""
    driven = set()
    for cell in cells:
        if _REGISTER_CELLS.fullmatch(cell[1]):
            port = r"\Q"
        elif cell[1] == "$memrd_v2" and r"parameter \CLK_ENABLE 1" in cell[3]:
            port = r"\DATA"
        else:
            continue
        for line in cell[3].splitlines():
            if line.startswith(f"    connect {port} "):
                driven |= set(_WIRE.findall(line.partition(port)[2]))
    lines = []
    for line in body.splitlines():
        if line.startswith("  wire ") and line.rpartition(" ")[2] in driven:
            lines.append(f"  attribute \\{REGISTER} 1")
        lines.append(line)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Extract:
    """A module with all below it, but for black boxes.

    Attributes
    ----------
    text : str
        RTLIL; the module is called ``unit``.
    ports : Mapping of str
        Names of the module's ports in `text`, by their position.
    boxes : Mapping of str
        Module that each black box stands for, by the name of its type in `text`.
    box_ports : Mapping of Mapping
        Names of the ports of each black box in `text`, by their position.
    """

    text: str
    ports: Mapping[int, str]
    boxes: Mapping[str, str]
    box_ports: Mapping[str, Mapping[int, str]]


def extract(every: Mapping[str, Module], top: str, boxed: Set[str] = frozenset()) -> Extract:
    """Return module `top` with all below it; the modules called `boxed` as black boxes.

    Names do not depend on where in the core the module stands nor on what stands beside it, so that
    an unchanged unit has an unchanged text.
    """
    texts, boxes = [every[top].text], []
    for name in _below(every, top, boxed):
        if name in boxed:
            boxes.append(name)
            texts.append("attribute \\blackbox 1\n" + "".join(
                line + "\n" for line in every[name].text.splitlines()
                if line.startswith(("module ", "end")) or _PORT.match(line)))
        else:
            texts.append(every[name].text)
    numbers: dict[str, int] = {}

    def rename(text: str) -> str:
        text = re.sub(rf"{re.escape(top)}(?=[.\s]|$)", lambda match: r"\unit", text)
        # A wire called `a[0]` beside a wire `a` of several bits makes abc9 name two wires alike
        # (https://github.com/YosysHQ/yosys/issues/4349).
        text = _ELEMENT.sub(r"<\1>", text)
        return _NUMBER.sub(
            lambda match: f"${numbers.setdefault(match[1], len(numbers))}", text)

    text = rename("".join(texts))
    return Extract(text, _ports(rename(every[top].text)),
                   {rename(name)[1:]: name for name in boxes},
                   {rename(name)[1:]: _ports(rename(every[name].text)) for name in boxes})


def _ports(text: str) -> dict[int, str]:
    """Return the names of a module's ports by their position."""
    return {int(match[1]): match[2] for match in map(_PORT.match, text.splitlines()) if match}


def _below(every: Mapping[str, Module], top: str, boxed: Set[str]) -> Iterator[str]:
    for name in every[top].children.values():
        yield name
        if name not in boxed:
            yield from _below(every, name, boxed)
