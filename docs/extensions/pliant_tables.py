"""Directives that write tables from the sources: nothing in them is typed a second time."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pliant.cli import main
from pliant.spec import registers
from pliant.spec.config import PRESETS, AcceleratorConfig
from pliant.spec.isa import (
    HEADER_BITS,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    OPCODE_BITS,
    TOKEN_BITS,
    Field,
    Instruction,
    fields,
)
from pliant.spec.platform import PLATFORMS
from pliant.spec.register_words import member_docs
from pliant_hw.board.boards import BOARDS, PROCESSING_SYSTEMS

USABLE_SHARE = 0.7
"""Of a memory's peak bandwidth that is counted on. UG585, section 22.3.2, gives about 75 % as the
most that the DDR controller of Zynq-7000 reaches."""

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "sw/pliant/spec": "The contract",
    "hw/pliant_hw": "Hardware",
    "hw/pliant_hw/board": "Board designs",
    "sw/pliant/compiler": "Compiler",
    "sw/pliant/driver": "Driver",
    "sim/pliant_sim": "Simulators",
    "sim/pliant_sim/benches": "cocotb benches",
    "sim/pliant_sim/vivado": "Stand-in for Vivado",
    "models/pliant_models": "Models",
    "models/pliant_models/networks": "Published networks",
    "models/pliant_models/detection": "Object detection",
    "sw/pliant/commands": "Command line",
}
"""Folders whose modules :func:`unit_tables` lists, and their headings."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def code_spans(text: str) -> str:
    """Return docstring text as Markdown: double backquotes and references become code."""
    for role in ("class", "func", "mod", "data", "meth", "attr"):
        text = text.replace(f":{role}:`", "`")
    return text.replace("``", "`")


def instruction_tables() -> str:
    """Return a section for each instruction: opcode, unit, what it does, its fields."""
    return "\n\n".join(_instruction(kind) for kind in INSTRUCTIONS)


def _instruction(kind: type[Instruction]) -> str:
    unit = "no unit; the dispatcher handles it" if kind.unit is None else f"{kind.unit.name} unit"
    header = [
        (f"{OPCODE_BITS - 1}:0", "`opcode`", OPCODE_BITS, kind.opcode, "kind of instruction"),
        (_bits(OPCODE_BITS, TOKEN_BITS), "`wait`", TOKEN_BITS, "mask of units",
         "units that a token is taken from before the start"),
        (_bits(OPCODE_BITS + TOKEN_BITS, TOKEN_BITS), "`signal`", TOKEN_BITS, "mask of units",
         "units that a token is sent to at the end"),
    ]
    rows = [(_bits(field.offset, field.width), f"`{field.name}`", field.width, _values(field),
             code_spans(field.doc)) for field in fields(kind)]
    used = fields(kind)[-1].offset + fields(kind)[-1].width if fields(kind) else HEADER_BITS
    return "\n\n".join([
        f"## {kind.__name__}",
        f"Opcode {kind.opcode}, {unit}: {kind.summary}. "
        f"{used} of {8 * INSTRUCTION_BYTES} bits used.",
        code_spans(inspect.cleandoc(kind.__doc__ or "")),
        table(("bits", "field", "width", "values", "meaning"), [*header, *rows]),
        *(["Rules:\n" + "\n".join(f"- `{rule.relation()}`" + (f", {rule.when}" if rule.when else "")
                                  for rule in kind.rules)] if kind.rules else []),
    ])


def _bits(offset: int, width: int) -> str:
    return f"{offset}" if width == 1 else f"{offset + width - 1}:{offset}"


def _values(field: Field) -> str:
    if field.values is not None:
        return ", ".join(f"{member.value} {member.name}" for member in field.values)
    limit = f", under `{field.depth}`" if field.depth is not None else ""
    return f"{field.minimum} to {field.maximum}{limit}"


def register_tables() -> str:
    """Return the register map, the bits of its flag registers and the codes of its others."""
    rows = [(f"0x{register.address:03x}", f"`{register.name}`", register.access.value,
             32 * register.words, register.doc) for register in registers.REGISTERS.values()]
    parts = ["## Map", table(("address", "name", "access", "bits", "meaning"), rows)]
    for title, kind in (("`control`", registers.Control), ("`status`", registers.Status),
                        ("Interrupts", registers.Interrupt), ("`fault_code`", registers.Fault),
                        ("`fault_unit`", registers.FaultUnit)):
        docs = member_docs(kind)
        members = [(member.value, f"`{member.name}`", code_spans(docs.get(member.name, "")))
                   for member in kind]
        parts += [f"## {title}", table(("value", "name", "meaning"), members)]
    return "\n\n".join(parts)


def configuration_table() -> str:
    """Return the presets side by side, with what follows from their fields."""
    names = [field.name for field in dataclasses.fields(AcceleratorConfig)
             if field.name not in ("name", "board")]
    rows: list[Sequence[object]] = [
        (f"`{name}`", *(getattr(config, name) for config in PRESETS.values())) for name in names]
    rows += [
        ("multiply-accumulates per cycle",
         *(config.peak_macs_per_cycle for config in PRESETS.values())),
        ("feature buffer, KiB", *(config.feature_bytes // 1024 for config in PRESETS.values())),
        ("weight buffer, KiB", *(config.weight_bytes // 1024 for config in PRESETS.values())),
        ("clock aimed at, MHz", *(config.board.clock_mhz for config in PRESETS.values())),
        ("DSP slices for the core", *(config.board.dsp_slices for config in PRESETS.values())),
        ("memory model, bytes per cycle",
         *(config.board.ddr_bytes_per_cycle for config in PRESETS.values())),
        ("memory model, latency in cycles",
         *(config.board.ddr_latency_cycles for config in PRESETS.values())),
        ("fingerprint", *(f"`{config.fingerprint:016x}`" for config in PRESETS.values())),
    ]
    return table(("", *(f"`{name}`" for name in PRESETS)), rows)


def board_table() -> str:
    """Return the boards: what is built for them, and with what."""
    rows = [(f"`{name}`" + (" (legacy)" if item.legacy else ""), BOARDS[name].title,
             f"`{item.config_name}`", f"`{item.part}`", f"`{BOARDS[name].board_part}`",
             BOARDS[name].vivado, f"{item.config.board.clock_mhz} MHz",
             f"0x{item.core_address:08x}", f"0x{item.interrupt_address:08x}")
            for name, item in PLATFORMS.items()]
    return table(("board", "maker and name", "configuration", "part", "board file", "Vivado",
                  "clock", "core at", "interrupt controller at"), rows)


def bandwidth_table() -> str:
    """Return what the core's bus, the ports and the memory of each board carry, bytes a cycle."""
    rows = []
    for name, item in PLATFORMS.items():
        config, board = item.config, BOARDS[name]
        width = PROCESSING_SYSTEMS[item.family].memory_port_bytes
        peak = board.memory_bytes_per_us / config.board.clock_mhz
        rows.append((f"`{name}`", config.axi_data_bytes,
                     f"{item.memory_ports} of {width}: {item.memory_ports * width}",
                     board.memory, f"{peak:.1f}", f"{USABLE_SHARE * peak:.1f}",
                     config.board.ddr_bytes_per_cycle))
    return table(("board", "core, each way", "ports, each way", "memory", "its peak, both ways",
                  f"{USABLE_SHARE:.0%} of that", "memory model, both ways"), rows)


def unit_tables() -> str:
    """Return, for each package, its modules and classes with the first line of their docstrings."""
    parts = []
    for folder, title in PACKAGES.items():
        rows = list(_units(ROOT / folder))
        if rows:
            parts += [f"## {title}: `{folder}`", table(("name", "file", "what it is"), rows)]
    return "\n\n".join(parts)


def _units(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.glob("*.py")):
        if path.name == "__init__.py":
            continue
        tree = ast.parse(path.read_text())
        yield f"**{path.stem}**", f"`{path.name}`", _first_line(tree)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield f"`{node.name}`", f"`{path.name}`", _first_line(node)


def _first_line(node: ast.Module | ast.ClassDef) -> str:
    lines = (ast.get_docstring(node) or "").split("\n\n")[0].split("\n")
    return code_spans(" ".join(lines))


def command_help() -> str:
    """Return what every command prints with --help."""
    parts = []
    for name, command in sorted(_commands(main)):
        with click.Context(command, info_name=f"pliant {name}") as context:
            parts += [f"## pliant {name}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts)


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Return all commands with their names, those of groups too."""
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")


class Generated(SphinxDirective):
    """Puts generated Markdown, with sections, where it stands."""

    generate: Callable[[], str]

    def run(self) -> list[nodes.Node]:
        """Return the parsed nodes."""
        return self.parse_text_to_nodes(type(self).generate(), allow_section_headings=True)


class ModuleDocstring(SphinxDirective):
    """Puts the docstring of a module where it stands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed nodes."""
        docstring = import_module(self.arguments[0]).__doc__ or ""
        return self.parse_text_to_nodes(code_spans(docstring))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name, function in (("instruction-tables", instruction_tables),
                           ("register-tables", register_tables),
                           ("configuration-table", configuration_table),
                           ("board-table", board_table),
                           ("bandwidth-table", bandwidth_table),
                           ("unit-tables", unit_tables),
                           ("command-help", command_help)):
        directive = type(name, (Generated,), {"generate": staticmethod(function)})
        app.add_directive(name, directive)
    app.add_directive("module-docstring", ModuleDocstring)
    return {"parallel_read_safe": True}
