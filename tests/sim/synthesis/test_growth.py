import dataclasses

import pytest

from pliant.spec.config import Board, preset
from pliant_sim.synthesis import flow, growth
from pliant_sim.synthesis.devices import default_device
from pliant_sim.synthesis.growth import grow, unit_areas
from pliant_sim.synthesis.netlist import Area
from pliant_sim.synthesis.report import Module, Report

TINY = preset("tiny")
DEVICE = default_device("tiny")


def fake_report(unit, areas):
    return Report(
        config="", unit=unit, device="xc7z020", yosys="Yosys 1", array_kind="packed array",
        dsp_packing="DSP48E1", seconds=0.0, area=areas[""], available=Area(), left=Area(),
        modules=[Module(path=path, area=area, memories={}) for path, area in areas.items()],
        array={}, depths=[], paths=[])


CORE = {"": Area(lut=100, dsp=4), "control": Area(lut=10), "engine": Area(lut=85, dsp=4),
        "engine.post": Area(lut=50, dsp=3), "engine.post.lane_0": Area(lut=20, dsp=1),
        "engine.load": Area(lut=30)}


def test_units_of_the_core_are_those_that_it_and_the_engine_join():
    found = unit_areas(fake_report("", CORE))
    assert found == {"(itself)": Area(lut=5), "control": Area(lut=10),
                     "engine (itself)": Area(lut=5, dsp=1), "engine.load": Area(lut=30),
                     "engine.post": Area(lut=50, dsp=3)}
    assert sum(found.values(), Area()) == CORE[""]


def test_units_of_one_unit_are_its_submodules_and_numbered_ones_count_together():
    areas = {"": Area(lut=50), "lane_0": Area(lut=20), "lane_1": Area(lut=21),
             "lane_1.shifter": Area(lut=7), "queue": Area(lut=4)}
    found = unit_areas(fake_report("engine.post", areas))
    assert found == {"(itself)": Area(lut=5), "lane_*": Area(lut=41), "queue": Area(lut=4)}


@pytest.fixture
def synthesised(monkeypatch):
    """A core whose matrix unit has as many LUTs as `cols`, and a queue from 16 on."""
    def report(config, device, unit, *, plain_array, progress):
        matrix, queue = Area(lut=config.cols, dsp=4), Area(lut=3 if config.cols >= 16 else 0)
        units = {"engine.matrix": matrix, "engine.queue": queue, "control": Area(lut=10)}
        return fake_report("", {"": sum(units.values(), Area()), "engine": matrix + queue, **units})

    monkeypatch.setattr(growth, "report", report)


def varied(**values):
    return {str(next(iter(item.values()))): dataclasses.replace(TINY, **item)
            for item in [dict(zip(values, row, strict=True))
                         for row in zip(*values.values(), strict=True)]}


def test_changes_are_against_the_configuration_itself_wherever_it_stands(synthesised):
    sweep, = grow(TINY, {"cols": varied(cols=(16, 8, 4), axi_data_bytes=(8, 8, 4))}, DEVICE).sweeps
    assert (sweep.field, sweep.values, sweep.reference) == ("cols", ["16", "8", "4"], 1)
    assert [item.area.lut for item in sweep.variants] == [29, 18, 14]
    assert [item.change.lut for item in sweep.variants] == [11, 0, -4]


def test_changes_are_against_the_first_if_the_configuration_is_not_among_them(synthesised):
    other_board = dataclasses.replace(TINY, board=Board(dsp_slices=0))
    sweep, = grow(other_board, {"cols": varied(cols=(16, 8))}, DEVICE).sweeps
    assert [item.change.lut for item in sweep.variants] == [0, -11]


def test_steps_of_the_units_add_up_to_that_of_the_whole(synthesised):
    sweep, = grow(TINY, {"cols": varied(cols=(4, 8, 16), axi_data_bytes=(4, 8, 8))}, DEVICE).sweeps
    first, second, third = sweep.variants
    assert first.steps == {}
    assert second.steps == {"control": Area(), "engine.matrix": Area(lut=4)}
    assert third.steps == {"control": Area(), "engine.matrix": Area(lut=8),
                           "engine.queue": Area(lut=3)}
    assert sum(third.steps.values(), Area()) == third.area - second.area


def test_ratios_are_of_the_whole_over_the_macs_of_the_variant(synthesised):
    sweep, = grow(TINY, {"cols": varied(cols=(8, 16))}, DEVICE).sweeps
    assert [item.macs for item in sweep.variants] == [32, 64]
    assert [item.lut_per_mac for item in sweep.variants] == [18 / 32, 29 / 64]
    assert [item.mac_per_dsp for item in sweep.variants] == [8, 16]


@pytest.mark.slow
def test_units_that_do_not_change_are_synthesised_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PLIANT_CACHE", str(tmp_path))
    synthesised = []
    original = flow.run

    def counted(texts, *arguments, **options):
        synthesised.extend(texts)
        return original(texts, *arguments, **options)

    monkeypatch.setattr(flow, "run", counted)
    sweep, = grow(TINY, {"feature_depth": varied(feature_depth=(512, 1024))}, DEVICE,
                  "engine.weights").sweeps
    assert len(synthesised) == 1
    assert [item.change for item in sweep.variants] == [Area()] * 2
