"""Which instruction words are legal: the decoder's side of fields and rules of the contract."""

from __future__ import annotations

import itertools
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

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
from pliant.spec.rules import AtMost, Multiple, Odd, Ordered, Rule, Under, When, value_of
from pliant_hw.layouts import instruction_layout
from pliant_hw.pipeline import delayed
from pliant_hw.products import lut_product

LEGAL_LATENCY = 1
"""Cycles from a word to what single fields say of it."""

AGREE_LATENCY = 2
"""Cycles from a word to what its fields say of one another, and its unused bits."""

PIXELS = ("out_height", "out_width")
"""What every product begins with, so that one multiplier serves all rules."""

FACTOR_BITS = 4
"""Of a factor by which a limit is divided, one constant for each of its values."""

PART_BITS = 4
"""Bits of one factor that are multiplied at a time: more would be too deep."""

PIECE_BITS = 64
"""Unused bits that are looked at together at most."""


class LegalityChecker(wiring.Component):
    """Judges instruction words as :meth:`pliant.spec.isa.Instruction.check` and the decoder do.

    `legal` is known LEGAL_LATENCY, `agree` AGREE_LATENCY cycles after a word, which must stand
    still until then.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    word : In   an instruction
    legal : Out   a known opcode, fields in their ranges
    agree : Out   all rules of its kind are kept, unused bits are zero; means nothing of words that
        are not `legal`
    """

    word: Signal
    legal: Signal
    agree: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "word": In(8 * INSTRUCTION_BYTES),
            "legal": Out(1),
            "agree": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        legal_kinds = Signal(len(INSTRUCTIONS))  # it is a legal one of this kind
        m.d.sync += legal_kinds.eq(Cat(self._legal(kind) for kind in INSTRUCTIONS))
        m.d.comb += self.legal.eq(legal_kinds.any())

        rules = [(kind, rule) for kind in INSTRUCTIONS for rule in kind.rules]
        conditions = [~self._applies(kind, rule) | self._kept(rule, self._decoded(kind))
                      for kind, rule in rules if not _has_product(rule)]
        plain = Signal(len(conditions))
        plain_kept = Signal()
        m.d.sync += [plain.eq(Cat(conditions)), plain_kept.eq(plain.all() & self._rest_zero(m))]
        within = self._products(m, [(kind, rule) for kind, rule in rules
                                    if isinstance(rule, AtMost) and _has_product(rule)])
        m.d.comb += self.agree.eq(plain_kept & within)
        return m

    def _decoded(self, kind: type[Instruction]) -> Any:
        """Return the word as an instruction of this kind."""
        layout = data.StructLayout({
            name: field.shape for name, field in instruction_layout(kind) if name != "index"})
        return data.View(layout, self.word[HEADER_BITS:HEADER_BITS + layout.size])

    def _is(self, kind: type[Instruction]) -> Value:
        return self.word[:OPCODE_BITS] == kind.opcode

    def _rest_zero(self, m: Module) -> Value:
        """Return, a cycle later, whether the bits behind the fields are zero."""
        ends = {kind: HEADER_BITS + sum(field.width for field in fields(kind))
                for kind in INSTRUCTIONS}
        bounds = sorted({*ends.values(),
                         *range(min(ends.values()), len(self.word), PIECE_BITS), len(self.word)})
        # What lies between the ends of two kinds is found once for all: shared by synthesis, the
        # pieces would form a chain. Long ones are cut, or they are too deep.
        used = Signal(len(bounds) - 1)
        found = Signal(len(INSTRUCTIONS))
        m.d.sync += [
            used.eq(Cat(self.word[start:end].any() for start, end in itertools.pairwise(bounds))),
            found.eq(Cat(self._is(kind) for kind in INSTRUCTIONS)),
        ]
        return ~Cat(is_kind & used[bounds.index(ends[kind]):].any()
                    for is_kind, kind in zip(found, INSTRUCTIONS, strict=True)).any()

    def _legal(self, kind: type[Instruction]) -> Value:
        instruction = self._decoded(kind)
        conditions = [self._is(kind)]
        for field in fields(kind):
            conditions += self._field(field, instruction[field.name])
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
        """Return whether a rule without a product is kept."""
        config = self._config
        match rule:
            case AtMost(product=(field,), limit=limit, plus=None):
                kept: Value = instruction[field] <= value_of(limit, config)
            case Under(field=field, limit=limit):
                kept = _under(instruction[field], value_of(limit, config))
            case Ordered(low=low, high=high):
                kept = instruction[low] <= instruction[high]
            case Odd(field=field):
                kept = instruction[field][0]
            case Multiple(field=field, of=of):
                kept = ~instruction[field][:exact_log2(value_of(of, config))].any()
            case _:
                raise AssertionError(rule)
        return kept

    def _applies(self, kind: type[Instruction], rule: Rule) -> Value:
        """Return whether the word is of this kind and must keep the rule."""
        found = self._is(kind)
        return found if rule.when is None else found & _holds(rule.when, self._decoded(kind))

    def _products(self, m: Module, rules: list[tuple[type[Instruction], AtMost]]) -> Value:
        """Return whether the rules with products are kept, known after AGREE_LATENCY cycles.

        ``plus + pixels * factor <= limit`` is ``pixels <= (limit - plus) // factor``: what the
        pixels may be is found while they are multiplied.
        """
        config = self._config
        kinds = list(dict.fromkeys(kind for kind, _ in rules))
        # A product of more factors is no smaller, so that more pixels than any limit are too many.
        most = max(value_of(rule.limit, config) for _, rule in rules)

        # Stage 1: products of one side and parts of the other; what the pixels may be.
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
        m.d.sync += applies.eq(Cat(self._applies(kind, rule) for kind, rule in rules))
        limits = [self._limit(m, rule, self._decoded(kind), f"limit_{index}")
                  for index, (kind, rule) in enumerate(rules)]

        # Stage 2: the pixels, or that they are too many. Behind it: the comparisons.
        total: Value = parts[0]
        for index, part in enumerate(parts[1:], 1):
            total = total + (part << PART_BITS * index)
        pixels = Signal(range(2 * most), reset_less=True)
        too_many = Signal(reset_less=True)
        still_applies = Signal.like(applies)
        m.d.sync += [pixels.eq(total), too_many.eq(total[len(pixels):].any()),
                     still_applies.eq(applies)]
        later_limits = [delayed(m, limit, 1, limit.name, reset_less=True) for limit in limits]
        kept = [~applying | (~too_many & (limit >= 0) & (pixels <= limit))
                for applying, limit in zip(still_applies, later_limits, strict=True)]
        return Cat(kept).all()

    def _limit(self, m: Module, rule: AtMost, instruction: Any, name: str) -> Signal:
        """Return, a cycle later, how many pixels a rule allows: less than none is none."""
        limit = value_of(rule.limit, self._config)
        assert rule.product[:2] == PIXELS
        result = Signal(signed(limit.bit_length() + 2), name=name, reset_less=True)
        match rule.product[2:], rule.plus:
            case (), str(plus):
                m.d.sync += result.eq(limit - instruction[plus])
            case (factor,), None:
                value = instruction[factor]
                assert len(value) <= FACTOR_BITS
                with m.Switch(value):
                    for number in range(1, 1 << len(value)):
                        with m.Case(number):
                            m.d.sync += result.eq(limit // number)
            case _:
                raise AssertionError(rule)
        return result


def _has_product(rule: Rule) -> bool:
    return isinstance(rule, AtMost) and len(rule.product) > 1


def _holds(when: When, instruction: Any) -> Value:
    value = instruction[when.field]
    if not when.values:
        any_bit: Value = value.any()
        return any_bit
    return Cat(value == member.value for member in when.values).any()


def _under(value: Value, limit: int) -> Value:
    return ~value[exact_log2(limit):].any()
