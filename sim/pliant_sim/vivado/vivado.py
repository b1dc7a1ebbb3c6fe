"""The commands of Vivado that the build uses, on a project and its block design."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pliant_sim.vivado import tcl
from pliant_sim.vivado.catalog import CATALOG, Ip, read_component
from pliant_sim.vivado.design import Cell, Design
from pliant_sim.vivado.tcl import TclError

_COMMANDS: dict[str, tuple[Callable[..., str], dict[str, bool], range]] = {}

PROJECT, SOURCES, CONSTRAINTS = "project", "sources_1", "constrs_1"

_PROPERTIES = {
    PROJECT: {"board_part", "board_connections", "ip_repo_paths"},
    SOURCES: {"top"},
    "impl_1": {"strategy", "PROGRESS", "STATUS", "STATS.WNS", "STATS.WHS"},
    "synth_1": {"strategy", "PROGRESS", "STATUS"},
}

STRATEGIES = {"Performance_ExplorePostRoutePhysOpt"}


def _command(
    options: str = "", words: range = range(1)
) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register a command.

    `options` are without the hyphen, and end in ``=`` where they take a value; `words` is how many
    words the command takes besides.
    """
    known = {f"-{item.rstrip('=')}": item.endswith("=") for item in options.split()}

    def register(function: Callable[..., str]) -> Callable[..., str]:
        _COMMANDS[function.__name__] = (function, known, words)
        return function

    return register


@dataclass
class Vivado:
    """A stand-in for one run of Vivado in batch mode.

    Parameters
    ----------
    release : str
        What ``version -short`` answers.
    board_parts : sequence of str
        The board files that are installed.
    repositories : dict
        Board files in directories that Vivado has to be told of.
    setup_slack, hold_slack : float
        What implementation comes to.
    failing : str
        A run that fails; none if empty.
    open_pins : frozenset of str
        Pins that the design leaves open.
    more_memory : bool
        The board file has DDR above 32 bits of address, too.
    """

    release: str = "2024.1"
    board_parts: Sequence[str] = ()
    repositories: dict[str, Sequence[str]] = field(default_factory=dict)
    setup_slack: float = 0.05
    hold_slack: float = 0.01
    failing: str = ""
    open_pins: frozenset[str] = frozenset()
    more_memory: bool = False
    design: Design | None = None
    directory: Path | None = None
    part: str = ""
    properties: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    catalog: dict[str, Ip] = field(default_factory=lambda: dict(CATALOG))
    automated: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, script: Path, arguments: Sequence[str] = ()) -> str:
        """Run a script; return what it printed; TclError if it fails."""
        return tcl.run(script, _COMMANDS, self._call, arguments)

    def _call(self, name: str, words: list[str]) -> str:
        function, known, count = _COMMANDS[name]
        self.calls.append(name)
        options: dict[str, Any] = {}
        rest = []
        index = 0
        while index < len(words):
            word = words[index]
            index += 1
            if not word.startswith("-") or word[1:2].isdigit():
                rest.append(word)
            elif word not in known:
                raise TclError(f"{name}: unknown option {word}")
            elif known[word]:
                if index == len(words):
                    raise TclError(f"{name}: option {word} lacks its value")
                options[word[1:]] = words[index]
                index += 1
            else:
                options[word[1:]] = True
        if len(rest) not in count:
            raise TclError(f"{name}: {len(rest)} words: {rest}")
        return function(self, rest, options)

    def _open_design(self) -> Design:
        if self.design is None:
            raise TclError("no block design is open")
        return self.design

    def _changing(self) -> Design:
        design = self._open_design()
        design.valid = design.saved = False
        return design

    # Project

    @_command("short")
    def version(self, words: list[str], options: dict[str, Any]) -> str:
        return self.release

    @_command("", range(2, 3))
    def set_param(self, words: list[str], options: dict[str, Any]) -> str:
        if words[0] != "board.repoPaths" or self.directory is not None:
            raise TclError(f"parameter {words[0]} cannot be set, or not any more")
        for folder in tcl.split(words[1]):
            if folder not in self.repositories:
                raise TclError(f"no board files in {folder}")
            self.board_parts = [*self.board_parts, *self.repositories[folder]]
        return ""

    @_command("part= force", range(1, 3))
    def create_project(self, words: list[str], options: dict[str, Any]) -> str:
        self.part = options["part"]
        self.directory = Path(words[-1])
        return words[0]

    @_command()
    def current_project(self, words: list[str], options: dict[str, Any]) -> str:
        if self.directory is None:
            raise TclError("no project is open")
        return PROJECT

    @_command("quiet latest_file_version", range(1, 2))
    def get_board_parts(self, words: list[str], options: dict[str, Any]) -> str:
        return tcl.join(fnmatch.filter(self.board_parts, words[0]))

    @_command()
    def update_ip_catalog(self, words: list[str], options: dict[str, Any]) -> str:
        for folder in tcl.split(self.properties.get((PROJECT, "ip_repo_paths"), "")):
            found = sorted(Path(folder).glob("*/component.xml"))
            if not found:
                raise TclError(f"{folder} has no packaged core")
            self.catalog.update(read_component(path) for path in found)
        return ""

    @_command("dict=", range(1, 4))
    def set_property(self, words: list[str], options: dict[str, Any]) -> str:
        if "dict" in options:
            pairs, target = tcl.split(options["dict"]), words[0]
            if len(words) != 1 or len(pairs) % 2:
                raise TclError(f"set_property -dict: {pairs} {words}")
        else:
            pairs, target = words[:2], words[2]
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            self._set(target, name, value)
        return ""

    def _set(self, target: str, name: str, value: str) -> None:
        if self.design is not None and target in self.design.cells:
            values = self._changing().cells[target].values
            if name.removeprefix("CONFIG.") not in values or not name.startswith("CONFIG."):
                raise TclError(f"{target} has no property {name}")
            values[name.removeprefix("CONFIG.")] = value
            return
        if name not in _PROPERTIES.get(target, ()):
            raise TclError(f"{target!r} has no property {name}")
        if name == "board_part" and value not in self.board_parts:
            raise TclError(f"board part {value} is not installed")
        if name == "strategy" and value not in STRATEGIES:
            raise TclError(f"no strategy is called {value}")
        self.properties[target, name] = value

    @_command("", range(2, 3))
    def get_property(self, words: list[str], options: dict[str, Any]) -> str:
        name, target = words
        if name not in _PROPERTIES.get(target, ()):
            raise TclError(f"{target!r} has no property {name}")
        if target in self.runs:
            done = self.runs[target]
            return {"PROGRESS": "100%" if done == "done" else "40%",
                    "STATUS": f"{target} {done}", "STATS.WNS": str(self.setup_slack),
                    "STATS.WHS": str(self.hold_slack)}[name]
        return self.properties[target, name]

    # Block design

    @_command("", range(1, 2))
    def create_bd_design(self, words: list[str], options: dict[str, Any]) -> str:
        self.current_project([], {})
        self.design = Design(words[0], self.open_pins)
        return words[0]

    @_command("type= vlnv=", range(1, 2))
    def create_bd_cell(self, words: list[str], options: dict[str, Any]) -> str:
        design, vlnv = self._changing(), options["vlnv"]
        if options["type"] != "ip" or vlnv not in self.catalog:
            raise TclError(f"the catalogue has no {options['type']} {vlnv}")
        if words[0] in design.cells:
            raise TclError(f"a cell is called {words[0]} already")
        design.cells[words[0]] = Cell(vlnv, self.catalog[vlnv],
                                      dict(self.catalog[vlnv].parameters))
        return words[0]

    @_command("rule= config=", range(1, 2))
    def apply_bd_automation(self, words: list[str], options: dict[str, Any]) -> str:
        cell = self._changing().cells[words[0]]
        config = tcl.split(options["config"])
        asked = dict(zip(config[::2], config[1::2], strict=True))
        if options["rule"] != cell.vlnv.replace(":ip:", ":bd_rule:"):
            raise TclError(f"no rule {options['rule']} for {cell.vlnv}")
        if asked.keys() - cell.ip.automation:
            raise TclError(f"rule {options['rule']} knows {sorted(cell.ip.automation)}: {asked}")
        if asked["apply_board_preset"] == "1":
            if (PROJECT, "board_part") not in self.properties:
                raise TclError("no board part to take a preset from")
            if self.more_memory:
                cell.values["PSU__DDR_HIGH_ADDRESS_GUI_ENABLE"] = "1"
        self.automated[words[0]] = asked
        return ""

    def _named(self, names: list[str], words: list[str], options: dict[str, Any]) -> str:
        found = fnmatch.filter(names, words[0]) if words else names
        return tcl.join(found)

    @_command("quiet", range(2))
    def get_bd_cells(self, words: list[str], options: dict[str, Any]) -> str:
        return self._named(list(self._open_design().cells), words, options)

    @_command("quiet", range(2))
    def get_bd_pins(self, words: list[str], options: dict[str, Any]) -> str:
        return self._named(list(self._open_design().pins()), words, options)

    @_command("quiet", range(2))
    def get_bd_intf_pins(self, words: list[str], options: dict[str, Any]) -> str:
        return self._named(list(self._open_design().interfaces()), words, options)

    @_command("quiet", range(2))
    def get_bd_addr_spaces(self, words: list[str], options: dict[str, Any]) -> str:
        return self._named(list(self._open_design().address_spaces()), words, options)

    @_command("quiet", range(2))
    def get_bd_addr_segs(self, words: list[str], options: dict[str, Any]) -> str:
        return self._named(list(self._open_design().segments()), words, options)

    @_command("net=", range(2, 100))
    def connect_bd_net(self, words: list[str], options: dict[str, Any]) -> str:
        design = self._changing()
        unknown = set(words) - design.pins().keys()
        if unknown:
            raise TclError(f"no pins {sorted(unknown)}")
        design.connect(words)
        return ""

    @_command("intf_net=", range(2, 3))
    def connect_bd_intf_net(self, words: list[str], options: dict[str, Any]) -> str:
        design = self._changing()
        unknown = set(words) - design.interfaces().keys()
        if unknown:
            raise TclError(f"no interfaces {sorted(unknown)}")
        design.link(*words)
        return ""

    @_command("offset= range= target_address_space= force", range(1, 2))
    def assign_bd_address(self, words: list[str], options: dict[str, Any]) -> str:
        design, places = self._changing(), [
            None if name not in options else int(options[name], 0) for name in ("offset", "range")]
        space = self._space(design, words[0], options)
        design.assign(space, words[0], *places)
        return ""

    @_command("target_address_space=", range(1, 2))
    def exclude_bd_addr_seg(self, words: list[str], options: dict[str, Any]) -> str:
        design = self._changing()
        design.excluded.add((self._space(design, words[0], options), words[0]))
        return ""

    def _space(self, design: Design, segment: str, options: dict[str, Any]) -> str:
        space: str = options["target_address_space"]
        if space not in design.address_spaces():
            raise TclError(f"no address space {space!r}")
        if segment not in design.segments():
            raise TclError(f"no segment {segment!r}")
        return space

    @_command()
    def validate_bd_design(self, words: list[str], options: dict[str, Any]) -> str:
        self._open_design().validate()
        return ""

    @_command()
    def save_bd_design(self, words: list[str], options: dict[str, Any]) -> str:
        self._open_design().saved = True
        return ""

    # Files and runs

    @_command("", range(1, 2))
    def get_files(self, words: list[str], options: dict[str, Any]) -> str:
        design = self._open_design()
        if words[0] != f"{design.name}.bd" or not design.saved:
            raise TclError(f"no file {words[0]} is saved")
        return words[0]

    @_command("files= top")
    def make_wrapper(self, words: list[str], options: dict[str, Any]) -> str:
        design = self._open_design()
        if not design.valid:
            raise TclError("the block design is not validated")
        assert self.directory is not None
        path = self.directory / f"{design.name}_wrapper.v"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"module {design.name}_wrapper;\nendmodule\n")
        return str(path)

    @_command("norecurse fileset=", range(1, 2))
    def add_files(self, words: list[str], options: dict[str, Any]) -> str:
        fileset = options.get("fileset", SOURCES)
        for name in tcl.split(words[0]):
            if fileset not in (SOURCES, CONSTRAINTS) or not Path(name).is_file():
                raise TclError(f"cannot add {name} to {fileset}")
            self.files.setdefault(fileset, []).append(name)
        return ""

    @_command()
    def current_fileset(self, words: list[str], options: dict[str, Any]) -> str:
        return SOURCES

    @_command("fileset=")
    def update_compile_order(self, words: list[str], options: dict[str, Any]) -> str:
        if options["fileset"] != SOURCES:
            raise TclError(f"no sources in {options['fileset']}")
        return ""

    @_command("jobs= to_step=", range(1, 2))
    def launch_runs(self, words: list[str], options: dict[str, Any]) -> str:
        run = words[0]
        if run == "impl_1" and self.runs.get("synth_1") != "done":
            raise TclError("implementation before synthesis")
        if run == "synth_1" and self.properties.get((SOURCES, "top")) is None:
            raise TclError("synthesis without a top module")
        if run not in ("synth_1", "impl_1") or not int(options["jobs"]) > 0:
            raise TclError(f"no run {run}")
        self.runs[run] = "failed" if run == self.failing else "running"
        if run == "impl_1" and options.get("to_step") != "write_bitstream":
            raise TclError("no bitstream is asked for")
        return ""

    @_command("", range(1, 2))
    def wait_on_run(self, words: list[str], options: dict[str, Any]) -> str:
        run = words[0]
        if self.runs[run] == "running":
            self.runs[run] = "done"
            assert self.directory is not None
            name = self._open_design().name
            made = {
                "synth_1": f"{name}.gen/sources_1/bd/{name}/hw_handoff/{name}.hwh",
                "impl_1": f"{name}.runs/impl_1/{name}_wrapper.bit"}[run]
            path = self.directory / made
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{run} for {self.part}\n")
        return ""

    @_command("", range(1, 2))
    def get_runs(self, words: list[str], options: dict[str, Any]) -> str:
        return words[0] if words[0] in ("synth_1", "impl_1") else ""

    @_command("", range(1, 2))
    def open_run(self, words: list[str], options: dict[str, Any]) -> str:
        if self.runs.get(words[0]) != "done":
            raise TclError(f"{words[0]} is not done")
        return ""

    @_command("file=")
    def report_timing_summary(self, words: list[str], options: dict[str, Any]) -> str:
        Path(options["file"]).write_text(f"WNS {self.setup_slack} WHS {self.hold_slack}\n")
        return ""

    @_command("file= hierarchical")
    def report_utilization(self, words: list[str], options: dict[str, Any]) -> str:
        Path(options["file"]).write_text("utilization\n")
        return ""
