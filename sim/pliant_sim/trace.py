"""Timelines of the units as a Perfetto trace, to be opened at https://ui.perfetto.dev."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
from perfetto.trace_builder.proto_builder import TraceProtoBuilder

from pliant.driver.faults import layer_of, unit_instructions
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Instruction, Unit, disassemble
from pliant.spec.program import Program
from pliant_sim.core import Event, RtlError

_SEQUENCE = 1
_PROCESS_TRACK = 1
_UNIT_TRACK = 2  # plus the unit


@dataclass(frozen=True)
class Span:
    """Instruction `index` was executed from cycle `start` up to cycle `end`."""

    unit: Unit
    index: int
    instruction: Instruction
    layer: str | None
    start: int
    end: int


def spans(program: Program, events: Iterable[Event]) -> Iterator[Span]:
    """Yield the executed instructions, by unit, in order; a unit executes in program order.

    RtlError when the events do not belong to the program.
    """
    starts: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    ends: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    for event in events:
        (ends if event.done else starts)[event.unit].append(event.cycle)
    for unit, items in unit_instructions(program).items():
        if not len(starts[unit]) == len(ends[unit]) == len(items):
            raise RtlError(
                f"unit {unit.name}: {len(starts[unit])} starts and {len(ends[unit])} completions "
                f"were recorded, program {program.network!r} has {len(items)} instructions for it"
            )
        for (index, instruction), start, end in zip(items, starts[unit], ends[unit], strict=True):
            yield Span(unit, index, instruction, layer_of(program, index), start, end)


def write_trace(
    path: str | os.PathLike[str], program: Program, config: AcceleratorConfig,
    events: Iterable[Event],
) -> None:
    """Write one run as a native Perfetto trace (``.pftrace``).

    One track for each unit; a slice for each instruction, named by layer and opcode, with index,
    cycles and disassembly. Time is cycles at the clock of the configuration's board.
    """
    builder = TraceProtoBuilder()
    _track(builder, _PROCESS_TRACK, f"{program.network} on {config.name}, "
                                    f"{config.board.clock_mhz} MHz")
    for unit in Unit:
        _track(builder, _UNIT_TRACK + unit, unit.name.lower(), order=unit)
    for span in spans(program, events):
        name = type(span.instruction).__name__.lower()
        begin = _slice(builder, span.unit, span.start, config)
        begin.type = protos.TrackEvent.TYPE_SLICE_BEGIN
        begin.name = f"{span.layer} {name}" if span.layer else name
        for key, value in (("instruction", span.index), ("first cycle", span.start),
                           ("cycles", span.end - span.start)):
            annotation = begin.debug_annotations.add()
            annotation.name, annotation.int_value = key, value
        annotation = begin.debug_annotations.add()
        annotation.name, annotation.string_value = "text", disassemble(span.instruction)
        _slice(builder, span.unit, span.end, config).type = protos.TrackEvent.TYPE_SLICE_END
    Path(path).write_bytes(builder.serialize())


def _track(builder: TraceProtoBuilder, uuid: int, name: str, order: int | None = None) -> None:
    track = builder.add_packet().track_descriptor
    track.uuid, track.name = uuid, name
    if order is None:
        track.child_ordering = protos.TrackDescriptor.EXPLICIT
    else:
        track.parent_uuid, track.sibling_order_rank = _PROCESS_TRACK, order


def _slice(
    builder: TraceProtoBuilder, unit: Unit, cycle: int, config: AcceleratorConfig
) -> protos.TrackEvent:
    packet = builder.add_packet()
    packet.timestamp = cycle * 1000 // config.board.clock_mhz
    packet.trusted_packet_sequence_id = _SEQUENCE
    packet.track_event.track_uuid = _UNIT_TRACK + unit
    return packet.track_event
