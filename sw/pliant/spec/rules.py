"""What an instruction's fields must fulfil together, as data.

:meth:`pliant.spec.isa.Instruction.check` and the hardware's decoder (`pliant_hw.legality`) both
read the tables of rules beside the instructions, so that they refuse the same words.
"""

from __future__ import annotations

import abc
import enum
import math
from dataclasses import dataclass
from typing import Any

from pliant.spec.config import AcceleratorConfig

Bound = str | int
"""A number, or the name of an attribute of the configuration that holds it."""


def value_of(bound: Bound, config: AcceleratorConfig) -> int:
    """Return what a bound is for `config`."""
    if isinstance(bound, int):
        return bound
    value: int = getattr(config, bound)
    return value


def _told(bound: Bound, config: AcceleratorConfig) -> str:
    if isinstance(bound, int):
        return str(bound)
    return f"{bound} = {value_of(bound, config)} of {config.name!r}"


@dataclass(frozen=True)
class When:
    """Holds if a field has one of `values`; without any, if it is not zero."""

    field: str
    values: tuple[enum.IntEnum, ...] = ()

    def holds(self, instruction: Any) -> bool:
        """Whether `instruction` fulfils it."""
        value = getattr(instruction, self.field)
        return value in self.values if self.values else bool(value)

    def __str__(self) -> str:
        if not self.values:
            return f"with {self.field}"
        return f"with {self.field} {' or '.join(value.name for value in self.values)}"


@dataclass(frozen=True, kw_only=True)
class Rule(abc.ABC):
    """One rule; `when` says of which instructions of its kind, None of all."""

    when: When | None = None

    def applies(self, instruction: Any) -> bool:
        """Whether `instruction` must keep the rule."""
        return self.when is None or self.when.holds(instruction)

    @abc.abstractmethod
    def holds(self, instruction: Any, config: AcceleratorConfig) -> bool:
        """Whether an instruction that it applies to keeps it."""

    @abc.abstractmethod
    def told(self, instruction: Any, config: AcceleratorConfig) -> str:
        """Return what is wrong with an instruction that breaks it."""

    @abc.abstractmethod
    def relation(self) -> str:
        """Return the rule without `when`, for the manual."""

    def __str__(self) -> str:
        return self.relation() + (f", {self.when}" if self.when else "")


@dataclass(frozen=True, kw_only=True)
class AtMost(Rule):
    """``plus + product of fields <= limit``; all of them unsigned.

    Attributes
    ----------
    product : tuple of str
        Fields that are multiplied.
    limit : Bound
    plus : str or None
        Field that is added.
    """

    product: tuple[str, ...]
    limit: Bound
    plus: str | None = None

    def holds(self, instruction: Any, config: AcceleratorConfig) -> bool:
        """Whether an instruction keeps it."""
        return self._total(instruction) <= value_of(self.limit, config)

    def _total(self, instruction: Any) -> int:
        values: list[int] = [getattr(instruction, name) for name in self.product]
        added: int = getattr(instruction, self.plus) if self.plus else 0
        return math.prod(values) + added

    def told(self, instruction: Any, config: AcceleratorConfig) -> str:
        """Return what is wrong."""
        return (f"{self._sum()} = {self._total(instruction)} must be at most "
                f"{_told(self.limit, config)}")

    def relation(self) -> str:
        """Return the rule."""
        return f"{self._sum()} <= {self.limit}"

    def _sum(self) -> str:
        product = " * ".join(self.product)
        return f"{self.plus} + {product}" if self.plus else product


@dataclass(frozen=True, kw_only=True)
class Under(Rule):
    """``field < limit``; the limit is a power of two."""

    field: str
    limit: Bound

    def holds(self, instruction: Any, config: AcceleratorConfig) -> bool:
        """Whether an instruction keeps it."""
        return bool(getattr(instruction, self.field) < value_of(self.limit, config))

    def told(self, instruction: Any, config: AcceleratorConfig) -> str:
        """Return what is wrong."""
        return (f"{self.field} = {getattr(instruction, self.field)} must be under "
                f"{_told(self.limit, config)}")

    def relation(self) -> str:
        """Return the rule."""
        return f"{self.field} < {self.limit}"


@dataclass(frozen=True, kw_only=True)
class Ordered(Rule):
    """``low <= high``, two signed fields of one width."""

    low: str
    high: str

    def holds(self, instruction: Any, config: AcceleratorConfig) -> bool:
        """Whether an instruction keeps it."""
        return bool(getattr(instruction, self.low) <= getattr(instruction, self.high))

    def told(self, instruction: Any, config: AcceleratorConfig) -> str:
        """Return what is wrong."""
        return (f"{self.low} = {getattr(instruction, self.low)} must not exceed {self.high} = "
                f"{getattr(instruction, self.high)}")

    def relation(self) -> str:
        """Return the rule."""
        return f"{self.low} <= {self.high}"


@dataclass(frozen=True, kw_only=True)
class Multiple(Rule):
    """``field`` is a multiple of a power of two."""

    field: str
    of: Bound

    def holds(self, instruction: Any, config: AcceleratorConfig) -> bool:
        """Whether an instruction keeps it."""
        return not getattr(instruction, self.field) % value_of(self.of, config)

    def told(self, instruction: Any, config: AcceleratorConfig) -> str:
        """Return what is wrong."""
        return (f"{self.field} = {getattr(instruction, self.field)} must be a multiple of "
                f"{_told(self.of, config)}")

    def relation(self) -> str:
        """Return the rule."""
        return f"{self.field} a multiple of {self.of}"


@dataclass(frozen=True, kw_only=True)
class Odd(Rule):
    """``field`` is odd."""

    field: str

    def holds(self, instruction: Any, config: AcceleratorConfig) -> bool:
        """Whether an instruction keeps it."""
        return bool(getattr(instruction, self.field) % 2)

    def told(self, instruction: Any, config: AcceleratorConfig) -> str:
        """Return what is wrong."""
        return f"{self.field} = {getattr(instruction, self.field)} must be odd"

    def relation(self) -> str:
        """Return the rule."""
        return f"{self.field} odd"
