import pytest

from pliant_sim.synthesis.devices import DEVICES, DeviceError, default_device, device
from pliant_sim.synthesis.parts import UnitError, find_unit
from pliant_sim.synthesis.rtlil import REGISTER, extract, modules
from pliant_sim.synthesis.yosys import OLDEST, parse_version

UNIT = r"""
module \core.NAME
  wire width 4 input 0  \data
  wire width 4 output 1  \q$NUMBER
  wire width 4 \sum
  wire width 1 \q[0]
  cell $add $NUMBER
    connect \A \data
    connect \Y \sum
  end
  cell $dff $7
    connect \D \sum
    connect \Q \q$NUMBER
  end
end
"""
CORE = r"""
attribute \top 1
module \core
  wire width 4 \first
  wire width 4 \second
  cell \core.a \a
    connect \data \first
    connect \q$12 \second
  end
  cell \core.b \b
    connect \data \second
    connect \q$34 \first
  end
end
"""
TEXT = (CORE + UNIT.replace("NAME", "a").replace("NUMBER", "12")
        + UNIT.replace("NAME", "b").replace("NUMBER", "34"))


def test_modules_know_their_submodules():
    found = modules(TEXT)
    assert set(found) == {r"\core", r"\core.a", r"\core.b"}
    assert found[r"\core"].children == {r"\a": r"\core.a", r"\b": r"\core.b"}


def test_wires_that_registers_drive_are_marked_and_no_others():
    lines = modules(TEXT)[r"\core.a"].text.splitlines()
    marked = [lines[index + 1] for index, line in enumerate(lines) if REGISTER in line]
    assert marked == [r"  wire width 4 output 1  \q$12"]


def test_a_unit_is_the_same_text_wherever_it_stands():
    found = modules(TEXT)
    assert extract(found, r"\core.a").text == extract(found, r"\core.b").text


def test_wires_cannot_be_taken_for_bits_of_others():
    assert r"\q<0>" in extract(modules(TEXT), r"\core.a").text


def test_black_boxes_keep_their_ports_and_lose_their_cells():
    whole = extract(modules(TEXT), r"\core", frozenset({r"\core.a", r"\core.b"}))
    assert set(whole.boxes.values()) == {r"\core.a", r"\core.b"}
    assert whole.text.count(r"attribute \blackbox 1") == 2
    assert "$add" not in whole.text
    for kind, module in whole.boxes.items():
        inside = extract(modules(TEXT), module).ports
        assert list(whole.box_ports[kind]) == list(inside) == [0, 1]
        assert f"connect \\{whole.box_ports[kind][1]} " in whole.text


PATHS = {"": "", "engine": "", "engine.post": "", "engine.post.walker": "", "engine.walker": ""}


@pytest.mark.parametrize(("unit", "path"), [
    ("post", "engine.post"), ("engine.post", "engine.post"), ("walker", "engine.walker"),
    ("post.walker", "engine.post.walker"),
])
def test_a_unit_is_found_by_the_end_of_its_path(unit, path):
    assert find_unit(PATHS, unit) == path


def test_an_unknown_unit_lists_those_there_are():
    with pytest.raises(UnitError, match=r"'pots'.*engine\.post"):
        find_unit(PATHS, "pots")


@pytest.mark.parametrize(("text", "version"), [
    ("Yosys 0.23 (git sha1 7ce5011c24b)", (0, 23)),
    ("Yosys 0.40+25 (git sha1 171577f90)", (0, 40)),
    ("Yosys 1.2", (1, 2)),
    ("something else", (0, 0)),
])
def test_versions_of_yosys_are_understood(text, version):
    assert parse_version(text) == version


def test_what_is_no_yosys_is_too_old():
    assert parse_version("") < OLDEST


def test_devices_have_what_their_data_sheets_say():
    found = {name: (item.lut, item.ramb36, item.uram, item.dsp) for name, item in DEVICES.items()}
    assert found == {
        "xc7z020": (53_200, 140, 0, 220),
        "zu3eg": (70_560, 216, 0, 360),
        "k26": (117_120, 144, 64, 1248),
        "zu7ev": (230_400, 312, 96, 1728),
    }


def test_an_unknown_device_lists_the_known():
    with pytest.raises(DeviceError, match=r"'zu9'.*xc7z020"):
        device("zu9")
    with pytest.raises(DeviceError, match="'mine'"):
        default_device("mine")
