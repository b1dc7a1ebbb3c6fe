"""Manifests: read back as written, every damage named, nothing loaded that does not fit."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from tests.driver.cases import layer_case

from pliant.driver.manifest import (
    Bitstream,
    Manifest,
    ManifestError,
    read_manifest,
    sha256,
)
from pliant.spec.config import ISA_VERSION, preset

CONFIG = preset("tiny")


@pytest.fixture
def manifest(tmp_path):
    """A manifest with a recorded bitstream, and the files it speaks of."""
    for name, content in (("core.v", b"module"), ("b.bit", b"bits"), ("b.hwh", b"<xml/>")):
        (tmp_path / name).write_bytes(content)
    made = Manifest(
        board="ultra96", part="xczu3eg", core="pliant:ip:pliant_core:1.0", config=CONFIG,
        generator="pliant", generator_version="0.1.0", clock_mhz=250,
        sources={"core.v": sha256(tmp_path / "core.v")},
        bitstream=Bitstream(
            file="b.bit", sha256=sha256(tmp_path / "b.bit"), handoff="b.hwh",
            handoff_sha256=sha256(tmp_path / "b.hwh"), tool="Vivado", tool_version="2024.1",
            setup_slack_ns=0.01, hold_slack_ns=0.02))
    made.save(tmp_path / "manifest.json")
    return read_manifest(tmp_path)


def rewrite(manifest, change):
    document = json.loads(manifest.path.read_text())
    change(document)
    manifest.path.write_text(json.dumps(document))
    return manifest.path


def test_what_is_written_is_read_back_with_every_field(manifest, tmp_path):
    assert manifest.config == CONFIG
    assert manifest.config.board == CONFIG.board
    manifest.save(tmp_path / "again.json")
    assert read_manifest(tmp_path / "again.json") == manifest
    document = json.loads((tmp_path / "again.json").read_text())
    assert document["fingerprint"] == f"{CONFIG.fingerprint:016x}"
    assert set(document["config"]) == {item.name for item in dataclasses.fields(CONFIG)}


def test_a_manifest_without_bitstream_says_so(manifest):
    path = rewrite(manifest, lambda document: document.update(bitstream=None))
    with pytest.raises(ManifestError, match=r"manifest\.json: field 'bitstream' is null"):
        read_manifest(path).check_bitstream()


@pytest.mark.parametrize(("field", "change"), [
    ("board", lambda d: d.pop("board")),
    ("surprise", lambda d: d.update(surprise=1)),
    ("clock_mhz", lambda d: d.update(clock_mhz="fast")),
    ("isa_version", lambda d: d.update(isa_version=True)),
    ("format", lambda d: d.update(format="pliant-manifest-0")),
    ("config.rows", lambda d: d["config"].pop("rows")),
    ("config.colour", lambda d: d["config"].update(colour=3)),
    ("config.board.clock_mhz", lambda d: d["config"]["board"].update(clock_mhz=None)),
    ("config", lambda d: d["config"].update(rows=5)),
    ("fingerprint", lambda d: d["config"].update(weight_depth=2048)),
    ("sources.core.v", lambda d: d["sources"].update({"core.v": 1})),
    ("bitstream.sha256", lambda d: d["bitstream"].pop("sha256")),
    ("bitstream.hold_slack_ns", lambda d: d["bitstream"].update(hold_slack_ns="0")),
    ("bitstream", lambda d: d.update(bitstream=[])),
])
def test_errors_name_the_file_and_the_field(manifest, field, change):
    path = rewrite(manifest, change)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert f"field '{field}'" in str(caught.value)


def test_what_is_no_json_is_refused(manifest):
    manifest.path.write_text("{")
    with pytest.raises(ManifestError, match=r"manifest\.json: not JSON"):
        read_manifest(manifest.path)
    manifest.path.write_text("[]")
    with pytest.raises(ManifestError, match="not an object"):
        read_manifest(manifest.path)


def test_another_configuration_is_refused_with_what_differs(manifest):
    manifest.check(CONFIG)
    manifest.check(dataclasses.replace(CONFIG, name="same"))
    with pytest.raises(ManifestError, match="rows is 4, not 16"):
        manifest.check(preset("pynq_z2"))


def test_a_program_for_another_configuration_is_refused(manifest):
    program = layer_case(0).program
    manifest.check(CONFIG, program)
    foreign = dataclasses.replace(program, fingerprint=1, config_name="other")
    with pytest.raises(ManifestError, match=r"'fingerprint' is .*, but program .* is compiled for "
                       r"configuration 'other'.*not for 'tiny'"):
        manifest.check(CONFIG, foreign)


def test_another_version_of_the_instruction_set_is_refused(manifest):
    path = rewrite(manifest, lambda d: d.update(isa_version=ISA_VERSION + 1, fingerprint="0"))
    with pytest.raises(ManifestError, match="field 'isa_version' is"):
        read_manifest(path).check(CONFIG)


@pytest.mark.parametrize(("name", "field"), [("b.bit", "sha256"), ("b.hwh", "handoff_sha256")])
def test_a_file_that_is_not_the_recorded_one_is_refused(manifest, name, field):
    assert manifest.check_bitstream() == manifest.path.parent / "b.bit"
    (manifest.path.parent / name).write_bytes(b"other")
    with pytest.raises(ManifestError, match=f"field 'bitstream.{field}' is .*, but {name} has"):
        manifest.check_bitstream()


def test_changed_sources_are_found(manifest):
    assert manifest.changed_sources() == []
    (manifest.path.parent / "core.v").write_bytes(b"other")
    assert manifest.changed_sources() == ["core.v"]
    (manifest.path.parent / "core.v").unlink()
    assert manifest.changed_sources() == ["core.v"]


def test_the_form_that_is_documented_has_these_fields(manifest):
    text = (Path(__file__).parents[2] / "bitstreams" / "README.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.S)
    form, document = json.loads(block), manifest.document()
    assert list(form) == list(document)
    assert list(form["bitstream"]) == list(document["bitstream"])
    assert form["format"] == document["format"]
