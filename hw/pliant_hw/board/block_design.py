r"""The block design around the core, as Tcl for Vivado.

    processing system, general-purpose master -- SmartConnect -- core, registers
                                                            \-- interrupt controller
    core, memory -- SmartConnect -- processing system, high-performance port; each so many times
    core, irq -- interrupt controller -- processing system

One clock, from the processing system, and one reset block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pliant.spec.platform import (
    CORE_INSTANCE,
    CORE_VLNV,
    DESIGN,
    INTERRUPT_CONTROLLER,
    INTERRUPT_SPACE_BYTES,
    Platform,
)
from pliant.spec.registers import REGISTER_SPACE_BYTES
from pliant_hw.board.boards import (
    PROCESSING_SYSTEMS,
    MemoryPort,
    core_ports,
    memory_ports,
    reference_setting,
    settings,
)
from pliant_hw.board.ipxact import ADDRESS_BLOCK
from pliant_hw.board.ports import CLOCK, CONTROL, INTERRUPT, RESET
from pliant_hw.top import memory_prefixes

RESET_BLOCK, CONTROL_SWITCH = "reset_0", "control_axi"

_PROCEDURES = """\
namespace eval pliant {
    # The object of that name; one that does not exist is an error, not an empty list.
    proc the {kind name} {
        set found [get_bd_$kind $name]
        if {[llength $found] != 1} {
            error "the block design has no $kind $name"
        }
        return $found
    }
    proc wire {args} {
        set pins {}
        foreach name $args {
            lappend pins [the pins $name]
        }
        connect_bd_net {*}$pins
    }
    proc bus {from to} {
        connect_bd_intf_net [the intf_pins $from] [the intf_pins $to]
    }
    # Maps the segments of that name, and no others, into an address space.
    proc memory {space segments pattern} {
        set space [the addr_spaces $space]
        set found 0
        foreach segment [get_bd_addr_segs -quiet $segments/*] {
            if {[string match */$pattern $segment]} {
                assign_bd_address -target_address_space $space $segment
                set found 1
            } else {
                exclude_bd_addr_seg -target_address_space $space $segment
            }
        }
        if {!$found} {
            error "there is no memory $segments/$pattern"
        }
    }
}
"""


def block_design(platform: Platform) -> str:
    """Return the script that makes the design in an open project.

    It expects the core in the project's IP catalogue and a variable `use_board_files`, true if
    the project has a board part.
    """
    ps = PROCESSING_SYSTEMS[platform.family]
    paths = _memory_paths(platform)
    parts = [
        f"# Block design for {platform.name}: the core, and what joins it to its processor.",
        _PROCEDURES,
        f"create_bd_design {DESIGN}\n",
        _processing_system(platform),
        "# The core and what stands around it",
        _cell(CORE_VLNV, CORE_INSTANCE),
        _cell("xilinx.com:ip:proc_sys_reset", RESET_BLOCK),
        _cell("xilinx.com:ip:axi_intc", INTERRUPT_CONTROLLER, {"C_IRQ_CONNECTION": 1}),
        _cell("xilinx.com:ip:smartconnect", CONTROL_SWITCH, {"NUM_SI": 1, "NUM_MI": 2}),
        *(_cell("xilinx.com:ip:smartconnect", switch, {"NUM_SI": 1, "NUM_MI": 1})
          for _, switch, _ in paths),
        "",
        "# One clock",
        _wire(f"{ps.cell}/{ps.clock}", f"{ps.cell}/{ps.control_clock}",
              *(f"{ps.cell}/{port.clock}" for *_, port in paths),
              f"{RESET_BLOCK}/slowest_sync_clk", f"{CORE_INSTANCE}/{CLOCK}",
              f"{INTERRUPT_CONTROLLER}/s_axi_aclk", f"{CONTROL_SWITCH}/aclk",
              *(f"{switch}/aclk" for _, switch, _ in paths)) + "\n",
        "# Resets: the core's is active high",
        _wire(f"{ps.cell}/{ps.reset}", f"{RESET_BLOCK}/ext_reset_in"),
        _wire(f"{RESET_BLOCK}/peripheral_reset", f"{CORE_INSTANCE}/{RESET}"),
        _wire(f"{RESET_BLOCK}/peripheral_aresetn", f"{INTERRUPT_CONTROLLER}/s_axi_aresetn"),
        _wire(f"{RESET_BLOCK}/interconnect_aresetn", f"{CONTROL_SWITCH}/aresetn",
              *(f"{switch}/aresetn" for _, switch, _ in paths)) + "\n",
        "# Registers",
        _bus(f"{ps.cell}/{ps.control}", f"{CONTROL_SWITCH}/S00_AXI"),
        _bus(f"{CONTROL_SWITCH}/M00_AXI", f"{CORE_INSTANCE}/{CONTROL}"),
        _bus(f"{CONTROL_SWITCH}/M01_AXI", f"{INTERRUPT_CONTROLLER}/s_axi") + "\n",
        f"# Memory: {_memory_widths(platform)}",
        *(line for bus, switch, port in paths for line in (
            _bus(f"{CORE_INSTANCE}/{bus}", f"{switch}/S00_AXI"),
            _bus(f"{switch}/M00_AXI", f"{ps.cell}/{port.interface}"))),
        "",
        "# Interrupt",
        _wire(f"{CORE_INSTANCE}/{INTERRUPT}", f"{INTERRUPT_CONTROLLER}/intr"),
        _wire(f"{INTERRUPT_CONTROLLER}/irq", f"{ps.cell}/{ps.interrupt}") + "\n",
        _addresses(platform),
        "validate_bd_design\nsave_bd_design\n",
    ]
    return "\n".join(parts)


def _memory_paths(platform: Platform) -> list[tuple[str, str, MemoryPort]]:
    """Return each master of the core, the SmartConnect behind it, and the port behind that."""
    return [(bus, f"memory_axi_{index}", port) for index, (bus, port) in enumerate(zip(
        memory_prefixes(core_ports(platform)), memory_ports(platform), strict=True))]


def _memory_widths(platform: Platform) -> str:
    port = 8 * PROCESSING_SYSTEMS[platform.family].memory_port_bytes
    if core_ports(platform) is not None:
        return f"{platform.memory_ports} ports of {port} bits, as wide as the core's masters"
    return f"from {8 * platform.config.axi_data_bytes} bits to the port's {port}"


def _processing_system(platform: Platform) -> str:
    ps = PROCESSING_SYSTEMS[platform.family]
    automation = (f"    apply_bd_automation -rule xilinx.com:bd_rule:{ps.ip} \\\n"
                  f"        -config {{{ps.automation}}} [pliant::the cells {ps.cell}]")
    without = ps.automation.replace('apply_board_preset "1"', 'apply_board_preset "0"')
    return "\n".join([
        "# Processing system",
        _cell(f"xilinx.com:ip:{ps.ip}", ps.cell),
        "if {$use_board_files} {",
        automation,
        "} else {",
        automation.replace(ps.automation, without),
        _set(reference_setting(platform), ps.cell, "    "),
        "}",
        _set(settings(platform), ps.cell),
        "",
    ])


def _addresses(platform: Platform) -> str:
    ps = PROCESSING_SYSTEMS[platform.family]
    lines = [
        "# Addresses of registers, as the processor sees them",
        f"set processor [pliant::the addr_spaces {ps.cell}/Data]",
        _assign(f"{CORE_INSTANCE}/{CONTROL}/{ADDRESS_BLOCK}", platform.core_address,
                REGISTER_SPACE_BYTES),
        _assign(f"{INTERRUPT_CONTROLLER}/S_AXI/Reg", platform.interrupt_address,
                INTERRUPT_SPACE_BYTES),
        "",
        "# Memory, as each master sees it: all DDR of the processing system, and nothing else",
        *(f"pliant::memory {CORE_INSTANCE}/{bus} {ps.cell}/{port.segments} {port.memory}*"
          for bus, _, port in _memory_paths(platform)),
    ]
    return "\n".join([*lines, ""])


def _assign(segment: str, address: int, size: int) -> str:
    return (f"assign_bd_address -offset 0x{address:08X} -range 0x{size:08X} \\\n"
            f"    -target_address_space $processor [pliant::the addr_segs {segment}]")


def _cell(vlnv: str, name: str, parameters: Mapping[str, Any] | None = None) -> str:
    line = f"create_bd_cell -type ip -vlnv {vlnv} {name}"
    return line if parameters is None else f"{line}\n{_set(parameters, name)}"


def _set(parameters: Mapping[str, Any], cell: str, indent: str = "") -> str:
    lines = [f"{indent}    CONFIG.{name} {value} \\" for name, value in parameters.items()]
    return "\n".join([f"{indent}set_property -dict [list \\", *lines,
                      f"{indent}] [pliant::the cells {cell}]"])


def _wire(*pins: str) -> str:
    return _continued("pliant::wire", pins)


def _bus(source: str, target: str) -> str:
    return f"pliant::bus {source} {target}"


def _continued(command: str, words: Iterable[str]) -> str:
    """Return a command on as many lines as it needs."""
    lines, line = [], command
    for word in words:
        if len(line) + len(word) > 95:
            lines.append(f"{line} \\")
            line = "   "
        line += f" {word}"
    return "\n".join([*lines, line])
