import concurrent.futures
import ctypes
import subprocess
from pathlib import Path

import pytest

from pliant_sim import verilator
from pliant_sim.cache import cache_directory
from pliant_sim.verilator import VerilatorError, build, toolchain

VERILOG = """
module adder(input [7:0] a, input [7:0] b, output [8:0] sum);
  assign sum = a + b;
endmodule
"""
HARNESS = """
#include "Vtop.h"
#include "scale.h"
extern "C" __attribute__((visibility("default"))) int add(int a, int b) {
    Vtop top;
    top.a = a;
    top.b = b;
    top.eval();
    return top.sum * SCALE;
}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLIANT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def harness(directory: Path, scale: int = 1) -> list[Path]:
    directory.mkdir(exist_ok=True)
    (directory / "add.cpp").write_text(HARNESS)
    (directory / "scale.h").write_text(f"#define SCALE {scale}\n")
    return [directory / "add.cpp", directory / "scale.h"]


def test_the_cache_is_where_the_environment_says(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_directory() == cache
    monkeypatch.delenv("PLIANT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_directory() == Path("/elsewhere/pliant")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "pliant"


def test_the_private_copy_runs_without_the_paths_of_the_wheels_builder(cache: Path) -> None:
    tools = toolchain()
    assert tools.root.parent == cache
    run = subprocess.run([tools.root / "bin" / "verilator", "--version"], check=True,
                         capture_output=True, text=True)
    assert "rev" in run.stdout
    makefile = (tools.root / "include" / "verilated.mk").read_text()
    assert "gcc-toolset" not in makefile
    assert toolchain() == tools


def test_a_library_is_built_once_for_each_content(cache: Path, tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(
            lambda _: build(VERILOG, "adder", harness(tmp_path / "c")), range(3))
    assert others == [first, first]
    assert ctypes.CDLL(str(first)).add(200, 100) == 300
    file = first.stat().st_ino
    assert build(VERILOG, "adder", harness(tmp_path / "c")) == first
    assert first.stat().st_ino == file
    assert [path.suffix for path in first.parent.iterdir() if path != first] == [".lock"]


def test_the_run_time_library_is_compiled_once(cache: Path, tmp_path: Path) -> None:
    build(VERILOG, "adder", harness(tmp_path / "c"))
    objects = toolchain().root / "objects"
    library = {file.name: file.read_bytes() for file in objects.iterdir()}
    assert library
    for file in objects.iterdir():
        file.write_bytes(b"no object")
    with pytest.raises(VerilatorError, match="file format not recognized"):
        build(VERILOG, "adder", harness(tmp_path / "c", scale=2))
    for name, content in library.items():
        (objects / name).write_bytes(content)
    again = build(VERILOG, "adder", harness(tmp_path / "c", scale=3))
    assert ctypes.CDLL(str(again)).add(1, 2) == 9
    assert {file.name for file in objects.iterdir()} == set(library)


def test_each_part_of_the_content_makes_another_library(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(tools: object, verilog: str, top: str, files: object, arguments: object, jobs: int,
             scratch: Path) -> None:
        (scratch / "obj").mkdir()
        (scratch / "obj" / "model.so").write_bytes(b"")

    monkeypatch.setattr(verilator, "_compile", fake)
    base, scaled = harness(tmp_path / "a"), harness(tmp_path / "b", scale=2)
    libraries = [
        build(VERILOG, "adder", base),
        build(VERILOG + "\n", "adder", base),
        build(VERILOG, "adder", scaled),
        build(VERILOG, "adder", base, flags=["--trace"]),
        build(VERILOG, "other", base),
    ]
    assert len(set(libraries)) == len(libraries)


def test_messages_of_a_failing_tool_are_passed_on(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(VerilatorError, match=r"verilator_bin failed(.|\n)*nonsense"):
        build(VERILOG.replace("a + b", "nonsense"), "adder", harness(tmp_path / "c"))
    (tmp_path / "c" / "add.cpp").write_text("#error a message\n")
    with pytest.raises(VerilatorError, match=r"make failed(.|\n)*a message"):
        build(VERILOG, "adder", [tmp_path / "c" / "add.cpp"])


def test_a_build_says_once_that_it_takes_long(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pliant_sim")
    for _ in range(2):
        build(VERILOG, "adder", harness(tmp_path / "c"))
    assert [record.getMessage() for record in caplog.records] == [
        "compiling the RTL of module 'adder', once for this content; a core takes minutes"]
