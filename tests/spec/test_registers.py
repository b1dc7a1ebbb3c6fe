"""The register map has no overlaps and room for all it names."""

from pliant.spec.registers import COUNTERS, REGISTER_SPACE_BYTES, REGISTERS


def test_registers_do_not_overlap_and_fit_the_address_space() -> None:
    taken: dict[int, str] = {}
    for register in REGISTERS.values():
        assert register.address % 4 == 0
        assert register.words in (1, 2)
        for word in range(register.words):
            address = register.address + 4 * word
            assert address < REGISTER_SPACE_BYTES
            assert taken.setdefault(address, register.name) == register.name
    assert len(taken) == sum(register.words for register in REGISTERS.values())


def test_every_counter_has_a_register() -> None:
    assert all(name in REGISTERS for name, _ in COUNTERS)
