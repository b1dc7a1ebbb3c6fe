"""Random instructions: legal ones, and such that break a single rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Field, Instruction, fields
from pliant.spec.rules import AtMost, Multiple, Odd, Ordered, Rule, Under

ATTEMPTS = 2000
"""Draws until a rule must have been broken alone, where that is possible."""


def fields_of(rule: Rule) -> tuple[str, ...]:
    """Return the fields that a rule compares."""
    if isinstance(rule, AtMost):
        return (*rule.product, rule.plus) if rule.plus else rule.product
    if isinstance(rule, Ordered):
        return rule.low, rule.high
    assert isinstance(rule, Under | Multiple | Odd)
    return (rule.field,)


def drawn_fields(rule: Rule) -> list[str]:
    """Return the fields that say whether a rule is kept."""
    return sorted({*fields_of(rule), *([rule.when.field] if rule.when else [])})


def draw(random: np.random.Generator, field: Field, config: AcceleratorConfig) -> int:
    """Return a value of a field's range: small ones as often as large ones."""
    high = field.maximum
    if field.depth is not None:
        high = min(high, getattr(config, field.depth) - 1)
    top = min(high, (1 << int(random.integers(1, field.width + 1))) - 1)
    return int(random.integers(field.minimum, max(top, field.minimum) + 1))


def broken(instruction: Instruction, config: AcceleratorConfig) -> list[Rule]:
    """Return the rules that an instruction breaks."""
    return [rule for rule in instruction.rules
            if rule.applies(instruction) and not rule.holds(instruction, config)]


def legal_instruction(
    random: np.random.Generator, kind: type[Instruction], config: AcceleratorConfig,
    **header: int,
) -> Instruction:
    """Return a random legal instruction; fields of broken rules are drawn again."""
    by_name = {field.name: field for field in fields(kind)}
    values: dict[str, Any] = {name: draw(random, field, config) for name, field in by_name.items()}
    while True:
        instruction = kind(**header, **values)
        rules = broken(instruction, config)
        if not rules:
            instruction.check(config)
            return instruction
        for rule in rules:
            values |= {name: draw(random, by_name[name], config) for name in drawn_fields(rule)}


def breaking_instruction(
    random: np.random.Generator, kind: type[Instruction], rule: Rule, config: AcceleratorConfig
) -> Instruction | None:
    """Return an instruction that breaks `rule` alone; None if none was found."""
    by_name = {field.name: field for field in fields(kind)}
    names = drawn_fields(rule)
    for attempt in range(ATTEMPTS):
        if attempt % 50 == 0:  # the other fields may stand in the way
            instruction = _one_with(random, kind, rule, config)
        found = dataclasses.replace(
            instruction, **{name: draw(random, by_name[name], config) for name in names
                            if random.random() < 0.5})
        if broken(found, config) == [rule]:
            return found
    return None


def _one_with(
    random: np.random.Generator, kind: type[Instruction], rule: Rule, config: AcceleratorConfig
) -> Instruction:
    """Return a random legal instruction, if one is found soon of those that must keep `rule`."""
    for _ in range(50):
        instruction = legal_instruction(random, kind, config)
        if rule.applies(instruction):
            break
    return instruction
