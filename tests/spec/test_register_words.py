"""Registers as words and bit fields: nothing lost of the map, nothing overlapping."""

import re

import pytest

from pliant.spec.config import ISA_VERSION, preset
from pliant.spec.register_words import MEANINGS, words
from pliant.spec.registers import IDENTIFIER, REGISTERS, Fault

CONFIG = preset("tiny")
WORDS = {word.name: word for word in words(CONFIG)}


def test_every_register_has_its_words_at_its_address():
    expected = {register.address + 4 * index
                for register in REGISTERS.values() for index in range(register.words)}
    addresses = [word.address for word in WORDS.values()]
    assert len(WORDS) == len(words(CONFIG))
    assert addresses == sorted(expected)
    assert WORDS["program_base_low"].address == REGISTERS["program_base"].address
    assert WORDS["program_base_high"].address == REGISTERS["program_base"].address + 4


def test_constants_are_the_reset_values():
    assert WORDS["identifier"].reset == IDENTIFIER
    assert WORDS["version"].reset == ISA_VERSION
    assert WORDS["fingerprint_high"].reset << 32 | WORDS["fingerprint_low"].reset == (
        CONFIG.fingerprint)


@pytest.mark.parametrize("name", REGISTERS)
def test_bits_that_the_map_speaks_of_are_fields(name):
    doc = REGISTERS[name].doc
    spoken = [int(number) for number in re.findall(r"(?:bit |, )(\d)\b", doc) if "bit 0" in doc]
    fields = WORDS[name].fields if name in WORDS else ()
    if spoken:
        assert [field.offset for field in fields] == spoken
    assert bool(fields) == (name in MEANINGS)
    used = [bit for field in fields for bit in range(field.offset, field.offset + field.width)]
    assert len(used) == len(set(used))


def test_codes_have_names_and_explanations():
    (field,) = WORDS["fault_code"].fields
    assert [(name, value) for name, value, _ in field.values] == [
        (fault.name, fault.value) for fault in Fault]
    assert "watchdog" in {name: doc for name, _, doc in field.values}["WATCHDOG"]
