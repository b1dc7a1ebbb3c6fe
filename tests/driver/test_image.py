import dataclasses

import numpy as np
import pytest

from pliant.driver.image import POISON, BlockImage
from pliant.spec.config import preset
from pliant.spec.isa import End, Load
from pliant.spec.memory import pack_features
from pliant.spec.program import LayerInfo, Program, ProgramError, Segment, TensorInfo

CONFIG = preset("tiny")


def tensor(name: str, shape: tuple[int, int, int], segment: int, offset: int = 0) -> TensorInfo:
    return TensorInfo(name=name, shape=shape, segment=segment, offset=offset, scale=1.0,
                      zero_point=0)


def make_program() -> Program:
    layer = LayerInfo(name="conv", kind="convolution", macs=1,
                      estimated_cycles=100, instructions=((0, 1),),
                      output=tensor("hidden", (6, 5, 3), Segment.SCRATCH, 64))
    return Program(
        network="net", config_name=CONFIG.name, fingerprint=CONFIG.fingerprint,
        instructions=Load().encode() + End().encode(), constants=bytes(range(100)),
        scratch_bytes=5000, inputs=(tensor("image", (3, 7, 5), Segment.INPUT),),
        outputs=(tensor("logits", (10, 1, 1), Segment.OUTPUT),), layers=(layer,),
    )


def test_areas_are_page_aligned_disjoint_and_hold_their_contents():
    program = make_program()
    image = BlockImage(program, CONFIG, base=0x2000_0000)
    assert image.program_base == image.base == 0x2000_0000
    assert image.program_length == 2
    assert all(base % 4096 == 0 for base in image.segment_bases)
    assert image.segment_bases == tuple(0x2000_0000 + 4096 * page for page in (1, 2, 4, 5))
    assert image.window == (0x2000_0000, 0x2000_0000 + 6 * 4096)
    assert image.data.size == 6 * 4096
    assert image.data[:128].tobytes() == program.instructions
    assert image.data[4096:4196].tobytes() == program.constants


def test_an_input_lies_in_memory_as_the_contract_says_and_reads_back():
    image = BlockImage(make_program(), CONFIG)
    value = np.random.default_rng(1).integers(-128, 128, (3, 7, 5), np.int8)
    image.write_input(0, value)
    start = image.segment_bases[Segment.INPUT] - image.base
    packed = pack_features(CONFIG, value)
    assert np.array_equal(image.data[start:start + packed.size], packed)
    assert np.array_equal(image.read_tensor(image.program.inputs[0]), value)


def test_poison_reaches_results_only():
    image = BlockImage(make_program(), CONFIG)
    value = np.ones((3, 7, 5), np.int8)
    image.write_input(0, value)
    before = image.data.copy()
    image.poison()
    signed = np.uint8(POISON).view(np.int8)
    assert (image.read_tensor(image.program.outputs[0]) == signed).all()
    assert (image.read_tensor(image.tensors()["hidden"]) == signed).all()
    assert np.array_equal(image.read_tensor(image.program.inputs[0]), value)
    assert np.array_equal(image.data[:8192], before[:8192])


def test_wrong_inputs_are_refused_by_name():
    image = BlockImage(make_program(), CONFIG)
    with pytest.raises(ValueError, match=r"'image'.*found int8 \(3, 7, 6\).*int8 \(3, 7, 5\)"):
        image.write_input(0, np.zeros((3, 7, 6), np.int8))
    with pytest.raises(ValueError, match=r"'image'.*found int32"):
        image.write_input(0, np.zeros((3, 7, 5), np.int32))
    with pytest.raises(ValueError, match="no input 1; it has 1"):
        image.write_input(1, np.zeros((3, 7, 5), np.int8))
    with pytest.raises(ValueError, match=r"'other'.*not of this program"):
        image.read_tensor(tensor("other", (64, 64, 64), Segment.OUTPUT))


def test_a_program_for_another_configuration_is_refused():
    with pytest.raises(ProgramError, match="compiled for configuration 'tiny'"):
        BlockImage(make_program(), preset("kv260"))
    with pytest.raises(ValueError, match="base = 0x10000010 must be a multiple"):
        BlockImage(make_program(), CONFIG, base=0x1000_0010)
    grown = dataclasses.replace(make_program(), scratch_bytes=1)
    assert BlockImage(grown, CONFIG).read_tensor(grown.layers[0].output).shape == (6, 5, 3)
