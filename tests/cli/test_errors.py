"""Every error that a user can act on is one line on stderr, exit code 2, nothing on stdout."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pliant.cli import main
from pliant.commands.errors import EXPECTED, explain
from pliant.commands.networks import NETWORKS, Network
from pliant.compiler.errors import CompileError
from pliant.spec.config import preset
from pliant.spec.isa import End
from pliant.spec.memory import feature_tensor_bytes
from pliant.spec.program import Program, Segment, TensorInfo

HEAVY = ("torch", "brevitas", "sklearn", "amaranth", "cffi", "perfetto", "rich", "numpy")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("pliant: error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.fixture
def program_path(tmp_path):
    config = preset("tiny")
    program = Program(
        network="net", config_name="tiny", fingerprint=config.fingerprint,
        instructions=End().encode(), constants=b"", scratch_bytes=0,
        inputs=(TensorInfo(name="image", shape=(3, 4, 4), segment=Segment.INPUT, offset=0,
                           scale=1.0, zero_point=0),),
        outputs=(), layers=(),
    )
    assert feature_tensor_bytes(config, 4, 4, 3) > 0
    path = tmp_path / "net.pliant"
    program.save(path)
    return path


@pytest.mark.parametrize("command", ["build", "compile digits", "disasm FILE", "simulate FILE"])
def test_unknown_configuration_lists_the_known(command, program_path):
    arguments = command.replace("FILE", str(program_path)).split()
    assert_refused(run(*arguments, "--config", "huge"), "'huge'", "tiny", "pynq_z2", "kv260")


@pytest.mark.parametrize("command", ["disasm", "simulate"])
def test_missing_program_file_is_named(command, tmp_path):
    path = tmp_path / "absent.pliant"
    assert_refused(run(command, path), str(path), "No such file")


@pytest.mark.parametrize("command", ["disasm", "simulate"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "text"])
def test_damaged_program_file_is_refused(command, damage, program_path):
    data = bytearray(program_path.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2:]
    elif damage == "flipped":
        data[data.index(b"instructions.bin") + 18] ^= 0xFF
    else:
        data = bytearray(b"not a program")
    program_path.write_bytes(data)
    assert_refused(run(command, program_path), str(program_path), "corrupted")


@pytest.mark.parametrize("command", ["disasm", "simulate"])
def test_program_for_another_configuration_is_refused(command, program_path):
    assert_refused(run(command, program_path, "--config", "kv260"), "'tiny'", "'kv260'",
                   "compile it again")


def test_unknown_network_lists_the_known():
    assert_refused(run("compile", "resnet"), "'resnet'", "digits")


def test_network_without_images_asks_for_an_input(program_path):
    assert_refused(run("simulate", program_path), "'net'", "--input")


def test_inputs_of_the_wrong_shape_number_and_kind_are_refused(program_path, tmp_path):
    array, text, absent = tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"
    np.save(array, np.zeros((3, 5, 4), np.int8))
    text.write_text("text")
    assert_refused(run("simulate", program_path, "-i", array), "'image'", "3, 4, 4", "5, 4")
    assert_refused(run("simulate", program_path, "-i", array, "-i", array), "1 inputs", "2 given")
    assert_refused(run("simulate", program_path, "-i", text), str(text), "not a .npy file")
    assert_refused(run("simulate", program_path, "-i", absent), str(absent), "No such file")


def test_compile_error_reaches_the_user_in_one_line(monkeypatch):
    def refuse():
        raise CompileError("conv", "kernel is 300", "use a smaller\nkernel")

    monkeypatch.setitem(NETWORKS, "digits", Network(graph=refuse, images=refuse))
    assert_refused(run("compile", "digits"), "'conv'", "kernel is 300", "use a smaller kernel")


def test_missing_extra_says_what_to_install(monkeypatch):
    def refuse():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setitem(NETWORKS, "digits", Network(graph=refuse, images=refuse))
    assert_refused(run("compile", "digits"), "'torch'", "pliant[models]")


def test_every_expected_error_exists_and_is_explained():
    for module, names in EXPECTED.items():
        __import__(module)
        for name in names:
            kind = getattr(sys.modules[module], name)
            error = kind.__new__(kind)
            Exception.__init__(error, "reason")
            assert explain(error) == "reason"


def test_a_defect_of_pliant_is_not_explained_away():
    assert explain(AssertionError("x")) is None
    assert explain(KeyError("x")) is None


@pytest.mark.parametrize("arguments", ["['--help']", "['demo', '--help']", "['build', '--help']"])
def test_help_imports_nothing_heavy(arguments):
    code = (f"import sys; sys.argv = ['pliant', *{arguments}]\n"
            "from pliant.cli import main\n"
            "try: main()\n"
            f"except SystemExit: print('loaded:', {HEAVY} & sys.modules.keys())")
    code = code.replace(f"{HEAVY} &", f"set({HEAVY}) &")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=True)
    assert result.stdout.endswith("loaded: set()\n")


@pytest.mark.parametrize("command", ["simulate FILE -i", "run FILE"])
def test_arrays_that_cannot_be_read_are_refused(command, program_path, tmp_path):
    np.save(tmp_path / "good.npy", np.zeros((3, 4, 4), np.int8))
    data = (tmp_path / "good.npy").read_bytes()
    huge, archive = tmp_path / "huge.npy", tmp_path / "archive.npy"
    huge.write_bytes(data.replace(b"(3, 4, 4), }             ", b"(3, 4, 444444444444444), }"[:26]))
    archive.write_bytes(b"PK\x03\x04" + data)
    unfinished = tmp_path / "unfinished.npy"
    unfinished.write_bytes(data.replace(b"4), }", b"4,   "))
    for path in (huge, unfinished, archive):
        assert_refused(run(*command.replace("FILE", str(program_path)).split(), path), str(path))


def test_a_device_is_no_program():
    assert_refused(run("disasm", "/dev/zero"), "/dev/zero", "no file")


@pytest.mark.parametrize("option", ["-o", "--examples"])
def test_a_full_disk_is_named_with_the_file(option, tmp_path):
    others = [] if option == "-o" else ["-o", tmp_path / "net.pliant"]
    assert_refused(run("compile", "digits", "--config", "tiny", option, "/dev/full", *others),
                   "/dev/full", "No space left")


def test_output_to_a_full_disk_is_one_line(program_path):
    command = (f"import sys; sys.argv = ['pliant', 'disasm', {str(program_path)!r}]\n"
               "from pliant.cli import main; main()")
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-c", command], stdout=full, text=True,
                                stderr=subprocess.PIPE, check=False)
    assert result.returncode == 2
    assert result.stderr == "pliant: error: No space left on device\n"


def test_readers_that_stop_reading_get_no_traceback(program_path):
    command = (f"import sys; sys.argv = ['pliant', 'disasm', {str(program_path)!r}]\n"
               "from pliant.cli import main; main()")
    process = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()


def test_a_number_of_images_beside_an_input_is_wrong_usage(program_path, tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((3, 4, 4), np.int8))
    result = run("simulate", program_path, "-i", tmp_path / "image.npy", "--images", 2)
    assert result.exit_code == 2
    assert "either --input or --images" in result.stderr


@pytest.mark.parametrize("options", [["--config", "tiny"], ["--images", "200"], ["--json"],
                                     ["-o", "elsewhere"]])
def test_options_of_demo_before_its_command_are_wrong_usage(options):
    result = run("demo", *options, "detect")
    assert result.exit_code == 2
    assert f"{options[0]}" in result.stderr
    assert "behind 'detect'" in result.stderr


def with_output(path, name):
    """Write a program that ends at once; its output is called `name`."""
    config = preset("tiny")
    tensor = TensorInfo(name="image", shape=(3, 4, 4), segment=Segment.INPUT, offset=0,
                        scale=1.0, zero_point=0)
    Program(network="net", config_name="tiny", fingerprint=config.fingerprint,
            instructions=End().encode(), constants=b"", scratch_bytes=0, inputs=(tensor,),
            outputs=(dataclasses.replace(tensor, name=name, segment=Segment.OUTPUT),),
            layers=()).save(path)


@pytest.mark.parametrize("command", [["simulate", "-i"], ["run"]])
@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/x", "", ".", "..", "nul\0"])
def test_outputs_whose_names_are_no_file_names_are_refused_before_the_run(
    command, name, tmp_path
):
    path = tmp_path / "net.pliant"
    with_output(path, name)
    np.save(tmp_path / "image.npy", np.zeros((3, 4, 4), np.int8))
    arguments = [command[0], path, *command[1:], tmp_path / "image.npy"]
    assert_refused(run(*arguments, "-o", tmp_path / "out"), repr(name), "file name")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["simulate", "--level", "rtl", "-i"], ["run"]])
def test_a_directory_that_cannot_be_made_is_refused_before_the_run(command, tmp_path, monkeypatch):
    path = tmp_path / "net.pliant"
    with_output(path, "out")
    np.save(tmp_path / "image.npy", np.zeros((3, 4, 4), np.int8))
    monkeypatch.setitem(sys.modules, "pliant_sim.core", None)  # what builds the RTL
    arguments = [command[0], path, *command[1:], tmp_path / "image.npy"]
    assert_refused(run(*arguments, "-o", path), str(path), "File exists")
