"""Units on an ECP5: the flow with programs that only pretend, and one unit with the real ones."""

import pytest

from pliant.spec.config import preset
from pliant_sim.synthesis import nextpnr, rtlil, yardstick
from pliant_sim.synthesis.devices import default_device
from pliant_sim.synthesis.nextpnr import NextpnrError
from pliant_sim.synthesis.parts import UnitError, unit_paths
from pliant_sim.synthesis.placement import CELLS, Placement

TINY = preset("tiny")


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Texts that are placed, in a cache of their own, by programs that need no time."""
    texts = []

    def place(text, directory):
        texts.append(text)
        return Placement(used=dict.fromkeys(CELLS, len(texts)), excess={}, megahertz=None,
                         path=None)

    monkeypatch.setattr(yardstick, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(yardstick, "place", place)
    return texts


def test_every_unit_is_placed_whole_and_once(pretended):
    """Those that only join units are not placed, and a second run finds all in the cache."""
    told = []
    first = yardstick.yardstick(TINY, default_device("tiny"), progress=told.append)
    names = [unit.path for unit in first.units]
    assert {"registers", "control", "counters", "engine.matrix", "engine.post"} <= set(names)
    assert not {"", "engine", "engine.matrix.array"} & set(names)
    assert told == names
    assert len(pretended) == len(names)
    assert not any("\\blackbox" in text or "DSP48" in text for text in pretended)
    assert yardstick.yardstick(TINY, default_device("tiny")) == first
    assert len(pretended) == len(names)


def test_the_array_is_the_packed_one_unless_asked(pretended):
    kinds = [yardstick.yardstick(TINY, default_device("tiny"), "matrix", plain_array=plain)
             for plain in (False, True)]
    assert [kind.array_kind for kind in kinds] == ["array packed for DSP48E1", "plain array"]
    assert ["pair_0" in text for text in pretended] == [True, False]


def test_one_unit_is_found_by_the_end_of_its_path(pretended):
    result = yardstick.yardstick(TINY, default_device("tiny"), "dispatch")
    assert [unit.path for unit in result.units] == ["engine.dispatch"]
    inner = yardstick.yardstick(TINY, default_device("tiny"), "engine")
    assert all(unit.path.startswith("engine.") for unit in inner.units)
    with pytest.raises(UnitError, match="no single unit is called 'dispath'"):
        yardstick.yardstick(TINY, default_device("tiny"), "dispath")


@pytest.mark.parametrize(("status", "log", "message"), [
    (1, "Info: before\nERROR: clock in a knot\n", "status 1:\nInfo: before\nERROR: clock in a k"),
    (0, "Info: no report\n", "failed with status 0"),
])
def test_a_failure_is_told_with_the_end_of_the_log(monkeypatch, tmp_path, status, log, message):
    monkeypatch.setattr(yardstick.yosys, "run", lambda script, directory: None)
    monkeypatch.setattr(nextpnr, "run", lambda directory: (status, log))
    with pytest.raises(NextpnrError, match=message):
        yardstick.place("", tmp_path)


def test_the_unit_that_failed_is_named(pretended, monkeypatch):
    def place(text, directory):
        raise NextpnrError("a knot")

    monkeypatch.setattr(yardstick, "place", place)
    with pytest.raises(NextpnrError, match=r"^unit engine\.arbiter: a knot"):
        yardstick.yardstick(TINY, default_device("tiny"), "arbiter")


def test_a_unit_that_is_too_big_is_a_result(monkeypatch, tmp_path):
    log = "Info: \t          MULT18X18D:     300/    156   192%\nERROR: no room\n"
    monkeypatch.setattr(yardstick.yosys, "run", lambda script, directory: None)
    monkeypatch.setattr(nextpnr, "run", lambda directory: (1, log))
    assert yardstick.place("", tmp_path).excess == {"MULT18X18D": [300, 156]}


@pytest.mark.slow
def test_a_small_unit_gets_a_clock_and_a_path_with_names(tmp_path):
    modules = rtlil.modules(rtlil.core_rtlil(TINY, None))
    text = rtlil.extract(modules, unit_paths(modules)["control"]).text
    placement = yardstick.place(text, tmp_path)
    assert placement.excess == {}
    assert 20 < placement.megahertz < 1000
    assert placement.path.nanoseconds == pytest.approx(1000 / placement.megahertz, rel=1e-3)
    assert 0 < placement.path.routing < placement.path.nanoseconds
    assert placement.used["ff"] > 50
    assert placement.used["lut"] > 50
    assert placement.used["multiplier"] == 0
    for end in (placement.path.start, placement.path.end):
        wire = end.partition("[")[0].rpartition(".")[2]
        assert f"\\{wire}\n" in text or f"\\{wire} " in text, end
