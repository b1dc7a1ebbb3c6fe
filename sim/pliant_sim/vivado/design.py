"""A block design: cells, nets, address maps, and the rules it has to keep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pliant_sim.vivado.catalog import Interface, Ip, Pin, Shape
from pliant_sim.vivado.tcl import TclError


@dataclass
class Cell:
    """An instance of an IP."""

    vlnv: str
    ip: Ip
    values: dict[str, str]

    @property
    def shape(self) -> Shape:
        """Its pins and interfaces, as its parameters are now."""
        return self.ip.shape(self.values)


@dataclass(frozen=True)
class Assignment:
    """A segment in an address space."""

    offset: int
    size: int


@dataclass
class Design:
    """A block design; pins are named ``cell/pin``.

    Attributes
    ----------
    open_pins : frozenset of str
        Output pins that may be left open.
    nets : list of sets of pins
    links : dict
        Interface to the one it is connected to, both ways.
    spaces : dict
        Address space to the assignments in it, by segment.
    excluded : set of (space, segment)
    valid : bool
        Whether it has been validated since the last change.
    """

    name: str
    open_pins: frozenset[str] = frozenset()
    cells: dict[str, Cell] = field(default_factory=dict)
    nets: list[set[str]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    spaces: dict[str, dict[str, Assignment]] = field(default_factory=dict)
    excluded: set[tuple[str, str]] = field(default_factory=set)
    valid: bool = False
    saved: bool = False

    def pins(self) -> dict[str, Pin]:
        """Return all pins outside interfaces, and the single pins of packaged interfaces."""
        return {f"{cell}/{name}": pin for cell, item in self.cells.items()
                for name, pin in item.shape.pins.items()}

    def interfaces(self) -> dict[str, Interface]:
        """Return all interfaces."""
        return {f"{cell}/{name}": item for cell, entry in self.cells.items()
                for name, item in entry.shape.interfaces.items()}

    def address_spaces(self) -> dict[str, str]:
        """Return all address spaces, and the interface each is behind."""
        return {f"{name.partition('/')[0]}/{item.space}": name
                for name, item in self.interfaces().items() if item.space}

    def segments(self) -> dict[str, tuple[int | None, int]]:
        """Return all segments behind slaves, with fixed offset (if any) and size."""
        return {f"{name.partition('/')[0]}/{segment}": place
                for name, item in self.interfaces().items()
                for segment, place in item.segments.items()}

    def connect(self, pins: list[str]) -> None:
        """Put pins on one net."""
        known = self.pins()
        joined = set(pins)
        for net in [net for net in self.nets if net & joined]:
            joined |= net
            self.nets.remove(net)
        drivers = [pin for pin in joined if known[pin].output]
        if len(drivers) > 1:
            raise TclError(f"net with several drivers: {sorted(drivers)}")
        widths = {known[pin].width for pin in joined}
        if len(widths) > 1:
            raise TclError(f"net of pins of {sorted(widths)} bits: {sorted(joined)}")
        kinds = {known[pin].kind for pin in joined}
        if len(kinds) > 1:
            raise TclError(f"net of pins of kinds {sorted(kinds)}: {sorted(joined)}")
        self.nets.append(joined)

    def link(self, first: str, second: str) -> None:
        """Connect a master interface with a slave interface."""
        known = self.interfaces()
        if known[first].master == known[second].master:
            raise TclError(f"{first} and {second} are both masters, or both slaves")
        for name in (first, second):
            if name in self.links:
                raise TclError(f"{name} is connected to {self.links[name]} already")
        self.links[first], self.links[second] = second, first

    def reachable(self, space: str) -> set[str]:
        """Return the segments that a path of interfaces leads to from an address space."""
        known = self.interfaces()
        todo, found = [self.address_spaces()[space]], set()
        while todo:
            slave = self.links.get(todo.pop())
            if slave is None:
                continue
            cell = slave.partition("/")[0]
            segments = known[slave].segments
            found |= {f"{cell}/{segment}" for segment in segments}
            if not segments:
                todo += [name for name, item in known.items()
                         if name.startswith(f"{cell}/") and item.master]
        return found

    def assign(self, space: str, segment: str, offset: int | None, size: int | None) -> None:
        """Give a segment its place in an address space."""
        fixed, full = self.segments()[segment]
        if segment not in self.reachable(space):
            raise TclError(f"{segment} cannot be reached from {space}")
        if segment in self.spaces.setdefault(space, {}):
            raise TclError(f"{segment} is assigned twice in {space}")
        offset = fixed if offset is None else offset
        size = full if size is None else size
        if offset is None or (fixed is not None and offset != fixed):
            raise TclError(f"{segment} is to be at {offset}, but belongs at {fixed}")
        if size < full or size & (size - 1) or offset % size:
            raise TclError(f"{segment}: {size} bytes at 0x{offset:x}: at least {full}, a power of "
                           "two, and aligned to it")
        for name, other in self.spaces[space].items():
            if offset < other.offset + other.size and other.offset < offset + size:
                raise TclError(f"{segment} overlaps {name} in {space}")
        window = self.interfaces()[self.address_spaces()[space]].window
        if window is not None and not window[0] <= offset <= window[0] + window[1] - size:
            raise TclError(f"{segment} at 0x{offset:x} is outside the window of {space}")
        self.spaces[space][segment] = Assignment(offset, size)

    def validate(self) -> None:
        """Raise TclError, with all that is wrong, unless the design is complete."""
        wrong = list(self._faults())
        if wrong:
            raise TclError(f"design {self.name}: " + "; ".join(wrong))
        self.valid = True

    def _faults(self) -> Iterator[str]:
        known, interfaces = self.pins(), self.interfaces()
        for net in self.nets:
            if not any(known[pin].output for pin in net):
                yield f"net without driver: {sorted(net)}"
            if len(net) < 2:
                yield f"net of one pin: {sorted(net)}"
        connected = set().union(*self.nets)
        for name, pin in known.items():
            needed = pin.required and name not in self.open_pins
            if needed and name not in connected:
                yield f"pin {name} is not connected"
            if name in self.open_pins and name in connected:
                yield f"pin {name} is to be left open"
        for name, item in interfaces.items():
            if name not in self.links:
                yield f"interface {name} is not connected"
            clock = f"{name.partition('/')[0]}/{item.clock}"
            other = self.links.get(name)
            if other is not None:
                far = f"{other.partition('/')[0]}/{interfaces[other].clock}"
                if not any({clock, far} <= net for net in self.nets):
                    yield f"interfaces {name} and {other} have different clocks"
            for part in item.pins:
                if f"{name.partition('/')[0]}/{part}" in connected:
                    yield f"pin {part} of interface {name} is connected by itself"
        for space in self.address_spaces():
            for segment in sorted(self.reachable(space)):
                placed = segment in self.spaces.get(space, {})
                if placed == ((space, segment) in self.excluded):
                    yield f"segment {segment} is neither or both assigned and excluded in {space}"
            if not self.spaces.get(space):
                yield f"nothing is assigned in {space}"
