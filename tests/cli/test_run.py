"""`pliant run`: images in, classes and cycles out, by the driver."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pliant.cli import main
from pliant.cli.base import FAILURE
from pliant.commands.run import REMOTE_VARIABLE
from pliant.compiler import compile_graph
from pliant.spec.config import preset
from pliant.spec.platform import platform
from pliant.spec.program import load_program
from pliant_models import digits
from pliant_sim.board.device import VirtualBoard

CONFIG = preset("tiny")
GOLDEN = digits.golden()
LOGITS = GOLDEN.integers[GOLDEN.graph.outputs[0]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "digits.pliant"
    compile_graph(GOLDEN.graph, CONFIG).save(path)
    return path


def pliant(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(item) for item in arguments])


def test_arrays_and_pictures_give_the_integers_of_the_model(program: Path, tmp_path: Path) -> None:
    images = GOLDEN.images[:4]
    np.save(tmp_path / "two.npy", images[:2])
    np.save(tmp_path / "real.npy", images[2].astype(np.float32) / 16)
    Image.fromarray(np.round(images[3, 0] * (255 / 16)).astype(np.uint8)).save(tmp_path / "d.png")
    done = pliant("run", program, tmp_path / "two.npy", tmp_path / "real.npy", tmp_path / "d.png",
                  "--json", "--profile", "--verify", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["images"] == 4
    assert found["classes"] == LOGITS[:4].reshape(4, -1).argmax(axis=1).tolist()
    assert np.array_equal(np.load(found["outputs"][0]["path"]), LOGITS[:4])
    assert len(set(found["cycles"])) == 1
    assert found["profile"]["cycles"] == found["cycles"][0]
    assert len(found["profile"]["layers"]) == 8


def test_people_read_classes_and_cycles(program: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", GOLDEN.images[0])
    done = pliant("run", program, tmp_path / "image.npy")
    assert done.exit_code == 0, done.output
    assert "1 image," in done.stdout
    assert f"classes: {LOGITS[0].argmax()}\n" in done.stdout


def test_the_board_at_hand_is_used_through_pynq(program: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", GOLDEN.images[:2])
    with VirtualBoard(platform("ultra96"), CONFIG) as device:  # PYNQ's active device
        bitstream = device.write_overlay(tmp_path / "overlay")
        done = pliant("run", program, tmp_path / "images.npy", "--json", "--device", "local",
                      "--bitstream", bitstream, "-o", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert not device.hardware.memory.live
    found = json.loads(done.stdout)
    assert found["device"] == "local"
    assert np.array_equal(np.load(found["outputs"][0]["path"]), LOGITS[:2])


def fails(*arguments: object) -> str:
    done = pliant("run", *arguments)
    assert done.exit_code == FAILURE, done.output
    assert done.stderr.startswith("pliant: error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_what_cannot_be_run_is_refused_in_a_line(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(REMOTE_VARIABLE, raising=False)
    image, wrong, text = (tmp_path / name for name in ("i.npy", "w.npy", "t.txt"))
    np.save(image, GOLDEN.images[0])
    np.save(wrong, np.zeros((3, 8, 8), np.int8))
    text.write_text("no picture")
    assert "takes int8 or real (1, 8, 8)" in fails(program, wrong)
    assert "neither a .npy file nor a picture" in fails(program, text)
    assert "No such file" in fails(program, tmp_path / "absent.npy")
    assert "mean has 3 values" in fails(program, text, "--mean", "1,2,3")
    assert "needs a bitstream" in fails(program, image, "--device", "local")
    assert "needs the board's address" in fails(
        program, image, "--device", "remote", "--bitstream", tmp_path / "x.bit")
    truncated = tmp_path / "truncated.pliant"
    truncated.write_bytes(program.read_bytes()[:200])
    assert "truncated or corrupted" in fails(truncated, image)


def test_programs_with_several_inputs_are_for_python(program: Path, tmp_path: Path) -> None:
    loaded = load_program(program)
    path = tmp_path / "two.pliant"
    other = dataclasses.replace(loaded.inputs[0], name="other")
    dataclasses.replace(loaded, inputs=(*loaded.inputs, other)).save(path)
    np.save(tmp_path / "image.npy", GOLDEN.images[0])
    assert "has 2 inputs" in fails(path, tmp_path / "image.npy")


@pytest.mark.parametrize(("name", "value", "message"), [
    ("none.npy", np.zeros((0, 1, 8, 8), np.int8), "one image or more"),
    ("nan.npy", np.full((1, 8, 8), np.nan), "infinite or no numbers"),
    ("flat.npy", np.zeros(64, np.int8), "(1, 8, 8)"),
    ("scalar.npy", np.int8(1), "(1, 8, 8)"),
    ("unsigned.npy", np.zeros((1, 8, 8), np.uint8), "found uint8"),
])
def test_arrays_that_are_no_input_are_refused_by_name(
    program: Path, tmp_path: Path, name: str, value: np.ndarray, message: str
) -> None:
    np.save(tmp_path / name, value)
    error = fails(program, tmp_path / name)
    assert name in error
    assert message in error


def test_a_damaged_picture_and_pixels_that_are_no_numbers_are_refused(
    program: Path, tmp_path: Path
) -> None:
    picture, damaged = tmp_path / "picture.png", tmp_path / "damaged.png"
    Image.effect_noise((28, 28), 50).save(picture)
    damaged.write_bytes(picture.read_bytes()[:200])
    assert "damaged.png: damaged picture" in fails(program, damaged)
    assert "std not 0" in fails(program, picture, "--std", "0")
    assert "must be numbers" in fails(program, picture, "--mean", "nan")
    np.save(tmp_path / "image.npy", GOLDEN.images[0])
    assert "for pictures" in fails(program, tmp_path / "image.npy", "--mean", "0.5")


def test_options_of_other_devices_are_refused(program: Path, tmp_path: Path) -> None:
    for option in ("--bitstream", "--address"):
        done = pliant("run", program, tmp_path / "image.npy", option, "x")
        assert done.exit_code == FAILURE
        assert f"{option} needs --device" in done.stderr


def test_a_bitstream_that_cannot_be_loaded_is_named(program: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", GOLDEN.images[0])
    bitstream = tmp_path / "core.bit"
    arguments = (program, tmp_path / "image.npy", "--device", "local", "--bitstream", bitstream)
    assert "core.bit: No such file" in fails(*arguments)
    bitstream.write_bytes(b"no bitstream")
    assert "core.hwh: No such file" in fails(*arguments)
    bitstream.with_suffix(".hwh").write_text("<EDKSYSTEM/>")
    assert "PYNQ cannot load" in fails(*arguments)
