"""The driver runs on a board: it needs NumPy alone, and no module of the development machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SOURCES = Path(__file__).parents[2] / "sw"

SCRIPT = """
import importlib, json, pkgutil, sys
sys.path[:0] = {paths}

class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "pliant"):
            raise ModuleNotFoundError(f"{{name}} is not on the board", name=name)

sys.meta_path.insert(0, OnlyNumpy())
import pliant.driver
names = [module.name for module in pkgutil.iter_modules(pliant.driver.__path__, "pliant.driver.")]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert name == "pliant.driver.pynq" and error.name == "pynq", (name, error)
tops = {{name.partition(".")[0] for name, module in sys.modules.items()
        if getattr(module, "__spec__", None)}}  # Cython's runtime in NumPy has none
others = sorted(tops - set(sys.stdlib_module_names) - {{"__main__", "__mp_main__"}})
print(json.dumps({{"names": names, "others": others, "modules": sorted(
    name for name in sys.modules if name.startswith("pliant"))}}))
"""


def imported(python: str, numpy_path: str) -> dict[str, list[str]]:
    script = SCRIPT.format(paths=[str(SOURCES), numpy_path])
    found = subprocess.run([python, "-I", "-S", "-c", script], capture_output=True, text=True,
                           check=False)
    assert found.returncode == 0, found.stderr
    result: dict[str, list[str]] = json.loads(found.stdout)
    return result


def check(found: dict[str, list[str]]) -> None:
    assert "pliant.driver.accelerator" in found["modules"]
    assert "pliant.driver.profile" in found["names"]
    assert not [name for name in found["modules"]
                if not name.startswith(("pliant.driver", "pliant.spec")) and name != "pliant"]
    assert set(found["others"]) <= {"numpy", "pliant"}


def test_every_module_but_that_of_pynq_imports_with_numpy_alone() -> None:
    check(imported(sys.executable, str(Path(np.__file__).parents[1])))


def test_the_driver_imports_on_python_3_10() -> None:
    """PLIANT_PYTHON310 names a Python 3.10 that has NumPy."""
    python = os.environ.get("PLIANT_PYTHON310")
    if python is None:
        pytest.skip("PLIANT_PYTHON310 names no Python 3.10 with NumPy")
    where = subprocess.run([python, "-c", "import numpy, sys; assert sys.version_info[:2] == "
                            "(3, 10); print(numpy.__file__)"],
                           capture_output=True, text=True, check=True).stdout.strip()
    check(imported(python, str(Path(where).parents[1])))
