"""Which instruction words are legal: the decoder's side of fields and rules of the contract."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import (
    HEADER_BITS,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    OPCODE_BITS,
    Field,
    Instruction,
    fields,
)
from pliant.spec.rules import AtMost, Multiple, Ordered, Rule, Under, When, value_of
from pliant_hw.layouts import instruction_layout
from pliant_hw.products import lut_product

LEGAL_LATENCY = 1
"""Cycles from a word to what single fields and comparisons say of it."""

WITHIN_LATENCY = 2
"""Cycles from a word to what products of its fields say of it."""

PIXELS = ("out_height", "out_width")
"""What every product begins with, so that one multiplier serves all rules."""

PART_BITS = 4
"""Bits of one factor that are multiplied at a time: more would be too deep."""


class LegalityChecker(wiring.Component):
    """Judges instruction words as :meth:`pliant.spec.isa.Instruction.check` and the decoder do.

    `legal` is known LEGAL_LATENCY, `within` WITHIN_LATENCY cycles after a word; the word must stand
    still as long as they are used.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    word : In   an instruction
    legal : Out   a known opcode, fields in their ranges, rules without products kept
    within : Out   no product passes its limit; means nothing of words that are not `legal`
    """

    word: Signal
    legal: Signal
    within: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "word": In(8 * INSTRUCTION_BYTES),
            "legal": Out(1),
            "within": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        legal_kinds = Signal(len(INSTRUCTIONS))  # it is a legal one of this kind
        m.d.sync += legal_kinds.eq(Cat(self._legal(kind) for kind in INSTRUCTIONS))
        m.d.comb += self.legal.eq(legal_kinds.any())
        self._products(m)
        return m

    def _decoded(self, kind: type[Instruction]) -> Any:
        """Return the word as an instruction of this kind."""
        layout = data.StructLayout({
            name: field.shape for name, field in instruction_layout(kind) if name != "index"})
        return data.View(layout, self.word[HEADER_BITS:HEADER_BITS + layout.size])

    def _is(self, kind: type[Instruction]) -> Value:
        return self.word[:OPCODE_BITS] == kind.opcode

    def _legal(self, kind: type[Instruction]) -> Value:
        instruction = self._decoded(kind)
        end = HEADER_BITS + sum(field.width for field in fields(kind))
        conditions = [self._is(kind), ~self.word[end:].any()]
        for field in fields(kind):
            conditions += self._field(field, instruction[field.name])
        for rule in kind.rules:
            if not _has_product(rule):
                conditions.append(self._kept(rule, instruction))
        return Cat(conditions).all()

    def _field(self, field: Field, value: Value) -> list[Value]:
        conditions: list[Value] = []
        if not field.signed and field.minimum > 0:
            assert field.minimum == 1
            conditions.append(value.any())
        if not field.signed and field.maximum < (1 << field.width) - 1:
            conditions.append(value <= field.maximum)
        if field.depth is not None:
            conditions.append(_under(value, value_of(field.depth, self._config)))
        return conditions

    def _kept(self, rule: Rule, instruction: Any) -> Value:
        """Return whether a rule without a product is kept, or does not apply."""
        config = self._config
        match rule:
            case AtMost(product=(field,), limit=limit, plus=None):
                kept: Value = instruction[field] <= value_of(limit, config)
            case Under(field=field, limit=limit):
                kept = _under(instruction[field], value_of(limit, config))
            case Ordered(low=low, high=high):
                kept = instruction[low] <= instruction[high]
            case Multiple(field=field, of=of):
                kept = ~instruction[field][:_log2(value_of(of, config))].any()
            case _:
                raise AssertionError(rule)
        return kept if rule.when is None else kept | ~_holds(rule.when, instruction)

    def _products(self, m: Module) -> None:
        config = self._config
        rules = [(kind, rule) for kind in INSTRUCTIONS for rule in kind.rules
                 if isinstance(rule, AtMost) and _has_product(rule)]
        kinds = list(dict.fromkeys(kind for kind, _ in rules))
        # A product of more factors is no smaller, so that more pixels than any limit are too many.
        most = max(value_of(rule.limit, config) for _, rule in rules)
        assert all(rule.product[:2] == PIXELS for _, rule in rules)

        # Stage 1: products of one side and parts of the other; what applies to the instruction.
        sides = [self._decoded(kinds[0])[name] for name in PIXELS]
        for kind in kinds[1:]:
            sides = [Mux(self._is(kind), self._decoded(kind)[name], side)
                     for name, side in zip(PIXELS, sides, strict=True)]
        parts = []
        for first in range(0, len(sides[1]), PART_BITS):
            product = lut_product(m, sides[0], sides[1][first:first + PART_BITS], f"part_{first}")
            part = Signal.like(product, name=f"registered_part_{first}", reset_less=True)
            m.d.sync += part.eq(product)
            parts.append(part)
        applies = Signal(len(rules))
        m.d.sync += applies.eq(Cat(
            self._is(kind) & (1 if rule.when is None
                              else _holds(rule.when, self._decoded(kind)))
            for kind, rule in rules))

        # Stage 2: pixels, or that they are too many. Behind it: the rules.
        total: Value = parts[0]
        for index, part in enumerate(parts[1:], 1):
            total = total + (part << PART_BITS * index)
        pixels = Signal(range(2 * most), reset_less=True)
        too_many = Signal(reset_less=True)
        still_applies = Signal.like(applies)
        m.d.sync += [pixels.eq(total), too_many.eq(total[len(pixels):].any()),
                     still_applies.eq(applies)]
        kept = []
        for index, (kind, rule) in enumerate(rules):
            instruction = self._decoded(kind)
            result: Value = pixels
            for name in rule.product[2:]:
                result = lut_product(m, result, instruction[name], f"product_{index}")
            if rule.plus is not None:
                result = result + instruction[rule.plus]
            limit = value_of(rule.limit, config)
            kept.append(~still_applies[index] | (~too_many & (result <= limit)))
        m.d.comb += self.within.eq(Cat(kept).all())


def _has_product(rule: Rule) -> bool:
    return isinstance(rule, AtMost) and len(rule.product) > 1


def _holds(when: When, instruction: Any) -> Value:
    value = instruction[when.field]
    if not when.values:
        any_bit: Value = value.any()
        return any_bit
    return Cat(value == member.value for member in when.values).any()


def _log2(value: int) -> int:
    assert value & (value - 1) == 0, value
    return value.bit_length() - 1


def _under(value: Value, limit: int) -> Value:
    return ~value[_log2(limit):].any()
