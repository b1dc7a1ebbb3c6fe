"""Configurations: checked, derived and fingerprinted."""

import dataclasses

import pytest

from pliant.spec.config import PRESETS, AcceleratorConfig, Board, ConfigError, preset


@pytest.mark.parametrize(("name", "rows", "cols"), [
    ("pynq_z2", 16, 16), ("ultra96", 16, 32), ("kv260", 32, 64), ("tiny", 4, 8),
])
def test_presets_have_their_array(name: str, rows: int, cols: int) -> None:
    config = preset(name)
    assert (config.rows, config.cols, config.peak_macs_per_cycle) == (rows, cols, rows * cols)


@pytest.mark.parametrize(("changes", "message"), [
    ({"rows": 12}, "rows = 12: must be a power of two from 4 to 64"),
    ({"cols": 48}, "cols = 48: must be rows (16), twice or four times that"),
    ({"axi_data_bytes": 64}, "axi_data_bytes = 64: must be rows (16) or twice that"),
    ({"axi_burst_beats": 512}, "axi_burst_beats = 512"),
    ({"axi_burst_beats": 256, "axi_data_bytes": 32, "cols": 32}, "must not pass 4096"),
    ({"axi_address_bits": 20}, "axi_address_bits = 20: must be 32 to 64"),
    ({"feature_depth": 1000}, "feature_depth = 1000: must be a power of two"),
    ({"weight_depth": 16}, "weight_depth = 16"),
    ({"parameter_depth": 16}, "parameter_depth = 16"),
    ({"tap_depth": 3}, "tap_depth = 3"),
    ({"accumulator_depth": 8192}, "accumulator_depth = 8192"),
    ({"multiplier_bits": 12}, "multiplier_bits = 12: must be 8, 16 or 31"),
    ({"queue_depth": 0}, "queue_depth = 0"),
])
def test_a_bad_field_is_named_with_value_and_rule(
    changes: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(preset("pynq_z2"), **changes)
    assert message in str(caught.value)
    assert "'pynq_z2'" in str(caught.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no configuration is called 'zc706'; known: tiny, "):
        preset("zc706")


def test_every_hardware_field_changes_the_fingerprint_and_nothing_else_does() -> None:
    base = preset("ultra96")
    other: dict[str, object] = {
        "rows": 32, "cols": 64, "axi_data_bytes": 16, "axi_address_bits": 36,
        "axi_burst_beats": 32, "axi_outstanding": 8, "feature_depth": 4096, "weight_depth": 8192,
        "tap_depth": 256, "parameter_depth": 512, "accumulator_depth": 256, "offset_depth": 512,
        "multiplier_bits": 31,
        "queue_depth": 4, "name": "mine", "board": Board(clock_mhz=1),
    }
    assert set(other) == {field.name for field in dataclasses.fields(AcceleratorConfig)}
    for field, value in other.items():
        changed = dataclasses.replace(base, **{field: value})  # type: ignore[arg-type]
        same = field in ("name", "board")
        assert (changed.fingerprint == base.fingerprint) == same, field
    assert len({config.fingerprint for config in PRESETS.values()}) == len(PRESETS)
