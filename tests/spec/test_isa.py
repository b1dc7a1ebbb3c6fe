"""Instructions: fields, validation and disassembler say the same."""

import dataclasses

import pytest

from pliant.spec.config import preset
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    End,
    Instruction,
    InstructionError,
    Load,
    Matrix,
    Post,
    Source,
    Target,
    fields,
)
from pliant.spec.numerics import Rounding


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_fields_lie_side_by_side_behind_the_header(kind: type[Instruction]) -> None:
    end = 12
    for field in fields(kind):
        assert field.offset == end
        end += field.width
    assert end <= 8 * INSTRUCTION_BYTES


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_values_past_a_range_name_field_value_and_range(kind: type[Instruction]) -> None:
    for field in fields(kind):
        for value in (field.minimum - 1, field.maximum + 1):
            with pytest.raises(InstructionError) as caught:
                kind(**{field.name: value})
            for part in (kind.__name__, field.name, str(value), str(field.maximum)):
                assert part in str(caught.value)


def test_tokens_are_four_bits() -> None:
    with pytest.raises(InstructionError, match="wait = 16"):
        End(wait=16)


def test_opcodes_differ() -> None:
    assert len({kind.opcode for kind in INSTRUCTIONS}) == len(INSTRUCTIONS)


def test_disassembly_shows_names_and_leaves_defaults_out() -> None:
    post = Post(wait=0b0011, signal=0b1000, source=Source.MAXIMUM, rounding=Rounding.HALF_UP,
                add_offset=-5)
    assert str(post) == (
        "post wait=load+matrix signal=store source=maximum rounding=half_up add_offset=-5")
    assert str(Load(target=Target.TAPS)) == "load target=taps"


def test_depths_of_a_configuration_bound_addresses() -> None:
    tiny = preset("tiny")
    Matrix(source=tiny.feature_depth - 1).check(tiny)
    with pytest.raises(InstructionError, match="feature_depth = 512 of 'tiny'"):
        Matrix(source=tiny.feature_depth).check(tiny)


@pytest.mark.parametrize(("post", "message"), [
    (Post(groups=3), "Post.groups = 3 must be at most groups_per_tile = 2"),
    (Post(parameters=4), "Post.parameters = 4 must be a multiple of cols = 8"),
    (Post(clip_min=5, clip_max=4), "Post.clip_min = 5 must not exceed clip_max"),
    (Post(add_clip_min=5, add_clip_max=4), "Post.add_clip_min = 5 must not exceed"),
])
def test_post_fields_that_disagree_are_refused(post: Post, message: str) -> None:
    with pytest.raises(InstructionError, match=message):
        post.check(preset("tiny"))
    dataclasses.replace(post, groups=1, parameters=8, clip_min=-1, add_clip_min=-1).check(
        preset("tiny"))
