"""The documentation builds without a warning, and its tables hold every field and register."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pliant.spec.config import PRESETS
from pliant.spec.isa import INSTRUCTIONS, fields
from pliant.spec.registers import COUNTERS, REGISTERS, Fault

ROOT = Path(__file__).parents[2]

PAGES = sorted(path.relative_to(ROOT) for path in (
    ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")))

SOURCE_PATH = r"`((?:hw|sw|sim|models|tests|docs|spec|compiler)/[\w./]+)`"
SOURCE_NAME = r"`(\w+\.py)`"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    output = tmp_path_factory.mktemp("html")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d",
         str(output / "doctrees"), str(ROOT / "docs"), str(output)],
        capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return output


def rows(page):
    """Return the rows of all tables of a page as tuples of text."""
    text = page.read_text()
    return [
        tuple(html.unescape(re.sub(r"<.*?>", "", cell)).strip()
              for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL))
        for row in re.findall(r"<tr.*?>(.*?)</tr>", text, re.DOTALL)
    ]


def test_every_field_of_every_instruction_is_in_the_tables(site):
    page = site / "instructions.html"
    found = [(row[0], row[1], row[2]) for row in rows(page) if len(row) == 5]
    for kind in INSTRUCTIONS:
        assert f'id="{kind.__name__.lower()}"' in page.read_text()
        for field in fields(kind):
            last = field.offset + field.width - 1
            bits = str(last) if field.width == 1 else f"{last}:{field.offset}"
            assert (bits, field.name, str(field.width)) in found, (kind, field.name)


def test_every_register_and_fault_is_in_the_tables(site):
    found = {row[:2] for row in rows(site / "registers.html")}
    for register in REGISTERS.values():
        assert (f"0x{register.address:03x}", register.name) in found
    for name, _ in COUNTERS:
        assert any(row[1] == name for row in found)
    for fault in Fault:
        assert (str(fault.value), fault.name) in found


def test_every_preset_and_every_hardware_unit_is_listed(site):
    assert ("", *PRESETS) in rows(site / "configurations.html")
    files = {row[1] for row in rows(site / "find_a_unit.html") if len(row) == 3}
    for path in (ROOT / "hw" / "pliant_hw").glob("*.py"):
        assert path.name in files or path.name == "__init__.py"


def test_every_decision_is_in_the_contents(site):
    contents = (site / "decisions" / "index.html").read_text()
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    assert len(pages) >= 8
    for page in pages:
        assert f"{page.stem}.html" in contents


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_pages_name_by_hand_exist(page):
    text = (ROOT / page).read_text()
    for path in re.findall(SOURCE_PATH, text):
        if path.startswith(("docs/_build/", "build/")):
            continue  # made by a command
        assert any((ROOT / folder / path).exists() for folder in ("", "sw/pliant")), path
    sources = {path.name for folder in ("hw", "sw", "sim", "models", "docs")
               for path in (ROOT / folder).rglob("*.py")}
    for name in re.findall(SOURCE_NAME, text):
        assert name in sources, name


def test_names_of_files_are_found_in_the_pages():
    text = "".join((ROOT / page).read_text() for page in PAGES)
    assert "hw/pliant_hw/walker.py" in re.findall(SOURCE_PATH, text)
    assert "lower.py" in re.findall(SOURCE_NAME, text)


@pytest.mark.parametrize("page", ["README.md", "docs/quick_start.md", "docs/simulators.md",
                                  "docs/compiler.md", "docs/configurations.md",
                                  "docs/driver.md", "docs/virtual_board.md",
                                  "docs/decisions/0010-unfolded-input.md"])
def test_python_examples_run(page):
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {})
