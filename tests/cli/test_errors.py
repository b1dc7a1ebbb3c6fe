"""Every error that a user can act on is one line on stderr, exit code 2, nothing on stdout."""

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
