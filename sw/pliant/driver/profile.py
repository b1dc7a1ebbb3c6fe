"""Where the cycles of a program go, layer by layer, from the hardware's counters.

The counters are of a whole run. The driver therefore runs prefixes of the program, each a part
longer than the one before: the instructions up to where the next layer's begin, then End. The
difference between two runs is what the part adds. Of the cycles that is the time by which the part
makes the run longer: where layers overlap, what is hidden behind other work counts for nothing, and
the last prefix, which is the whole program, takes as long as any run, so that the figures add up to
a run's. Beats read and written are the part's own but for instructions fetched ahead.

Every prefix runs to its end because an instruction waits for tokens of earlier ones alone
(:func:`check_prefixes`): the compiler emits none that waits for a later one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import MAX_TOKENS, End, Instruction, Unit
from pliant.spec.program import Program


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """What one layer adds to a run.

    Attributes
    ----------
    name, kind : str
    macs : int
        Useful multiply-accumulates.
    cycles : int
        By how much the layer makes the run longer; less than its work where layers overlap.
    estimated_cycles : int
        What the compiler expected.
    counters : dict of int
        By how much it raises each performance counter.
    """

    name: str
    kind: str
    macs: int
    cycles: int
    estimated_cycles: int
    counters: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A program, layer by layer.

    Attributes
    ----------
    layers : tuple of LayerProfile
        In the order of the program's layers.
    cycles : int
        Of a whole run: the layers' cycles, and `other_cycles`.
    other_cycles : int
        Of a program of nothing but End.
    peak_macs_per_cycle : int
    """

    layers: tuple[LayerProfile, ...]
    cycles: int
    other_cycles: int
    peak_macs_per_cycle: int

    def utilization(self, layer: LayerProfile) -> float:
        """Return a layer's useful work over the most that its cycles could hold; may pass 1.

        It does where most of the layer's time is hidden behind other layers.
        """
        return layer.macs / max(1, layer.cycles * self.peak_macs_per_cycle)

    def text(self) -> str:
        """Return a table."""
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{'layer':{width}} {'cycles':>10} {'share':>6} {'MACs':>12} {'of peak':>7}"]
        lines += [
            f"{layer.name:{width}} {layer.cycles:>10} {layer.cycles / self.cycles:>6.1%} "
            f"{layer.macs:>12} {self.utilization(layer):>7.1%}"
            for layer in self.layers
        ]
        lines.append(f"{'whole run':{width}} {self.cycles:>10}")
        return "\n".join(lines)


def boundaries(program: Program) -> list[tuple[int, str | None]]:
    """Return where the parts of layers end, as instruction indices, and whose they are.

    Parts follow one another without a gap and end where End stands; None for instructions that
    belong to no layer.
    """
    owners = program.owners
    count = len(program.decoded()) - 1
    names = [owners[index].name if index in owners else None for index in range(count)]
    return [(index + 1, name) for index, name in enumerate(names)
            if index + 1 == count or names[index + 1] != name]


def check_prefixes(instructions: Sequence[Instruction]) -> None:
    """Raise ValueError unless every prefix of a program can run to its end.

    That is so when instructions executed one by one, in program order, always find the tokens that
    they wait for, and never leave more tokens pending than the hardware counts.
    """
    pending: Counter[tuple[Unit, Unit]] = Counter()
    for index, item in enumerate(instructions):
        if item.unit is None:
            continue
        for other in Unit:
            if item.wait >> other & 1:
                if not pending[other, item.unit]:
                    raise ValueError(f"instruction {index} waits for a token of {other.name} that "
                                     "no earlier instruction sends; no prefix can be run")
                pending[other, item.unit] -= 1
        for other in Unit:
            if item.signal >> other & 1:
                pending[item.unit, other] += 1
                if pending[item.unit, other] > MAX_TOKENS:
                    raise ValueError(f"a prefix that ends after instruction {index} leaves more "
                                     f"than {MAX_TOKENS} tokens from {item.unit.name} to "
                                     f"{other.name}; it cannot be run")


def measure(
    program: Program, config: AcceleratorConfig, run_prefix: Callable[[int], dict[str, int]]
) -> Profile:
    """Return the profile of a program.

    Parameters
    ----------
    program : Program
        Ends with End, its only one.
    config : AcceleratorConfig
        What executes it.
    run_prefix : callable
        Runs the instructions before an index, then End; returns all counters.

    Raises
    ------
    ValueError
        The program cannot be cut into prefixes.
    """
    instructions = program.decoded()
    if [index for index, item in enumerate(instructions) if isinstance(item, End)] != [
            len(instructions) - 1]:
        raise ValueError(f"program {program.network!r} must have one End, its last instruction")
    check_prefixes(instructions)
    before = run_prefix(0)
    empty = before["cycles"]
    added: dict[str | None, Counter[str]] = {None: Counter()}
    for index, name in boundaries(program):
        after = run_prefix(index)
        counter = added.setdefault(name, Counter())
        for key, value in after.items():
            counter[key] += value - before[key]
        before = after
    return Profile(
        layers=tuple(
            LayerProfile(name=layer.name, kind=layer.kind, macs=layer.macs,
                         cycles=added[layer.name]["cycles"],
                         estimated_cycles=layer.estimated_cycles,
                         counters={key: added[layer.name][key] for key in before})
            for layer in program.layers if layer.name in added),
        cycles=before["cycles"], other_cycles=empty + added[None]["cycles"],
        peak_macs_per_cycle=config.peak_macs_per_cycle)
