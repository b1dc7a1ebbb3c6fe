import dataclasses
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from pliant.spec.config import preset
from pliant.spec.isa import End, Load, Matrix, Unit, disassemble
from pliant.spec.program import LayerInfo, Program
from pliant_sim.core import Event, RtlError
from pliant_sim.trace import spans, write_trace

CONFIG = preset("pynq_z2")
INSTRUCTIONS = [Load(run_beats=3), Load(run_beats=4), Matrix(groups=2, wait=1), End()]
PROGRAM = Program(
    network="net", config_name=CONFIG.name, fingerprint=CONFIG.fingerprint,
    instructions=b"".join(item.encode() for item in INSTRUCTIONS), constants=b"", scratch_bytes=0,
    inputs=(), outputs=(),
    layers=(LayerInfo(name="conv1", kind="convolution", macs=1,
                      estimated_cycles=100, instructions=((1, 3),), output=None),),
)
# The second load starts in the cycle in which the first completes.
EVENTS = [
    Event(10, Unit.LOAD, False), Event(30, Unit.LOAD, True), Event(30, Unit.LOAD, False),
    Event(41, Unit.MATRIX, False), Event(55, Unit.LOAD, True), Event(91, Unit.MATRIX, True),
]


def test_spans_follow_program_order_in_each_unit():
    found = [(s.unit, s.index, s.start, s.end, s.layer) for s in spans(PROGRAM, EVENTS)]
    assert found == [(Unit.LOAD, 0, 10, 30, None), (Unit.LOAD, 1, 30, 55, "conv1"),
                     (Unit.MATRIX, 2, 41, 91, "conv1")]


def test_instructions_of_layers_that_take_turns_keep_their_layer():
    conv2 = LayerInfo(name="conv2", kind="convolution", macs=1, estimated_cycles=100,
                      instructions=((0, 1), (2, 3)), output=None)
    conv1 = dataclasses.replace(conv2, name="conv1", instructions=((1, 2),))
    found = spans(dataclasses.replace(PROGRAM, layers=(conv1, conv2)), EVENTS)
    assert {s.index: s.layer for s in found} == {0: "conv2", 1: "conv1", 2: "conv2"}


def test_events_of_another_run_are_refused():
    with pytest.raises(RtlError, match="unit MATRIX: 1 starts and 0 completions"):
        list(spans(PROGRAM, EVENTS[:-1]))


def test_the_trace_reads_back(tmp_path: Path):
    path = tmp_path / "run.pftrace"
    write_trace(path, PROGRAM, CONFIG, EVENTS)
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    tracks = {p.track_descriptor.uuid: p.track_descriptor.name for p in trace.packet
              if p.HasField("track_descriptor")}
    assert list(tracks.values()) == ["net on pynq_z2, 125 MHz", "load", "matrix", "post", "store"]
    open_slices: dict[str, tuple[int, TrackEvent]] = {}
    found = []
    for packet in trace.packet:
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        track = tracks[event.track_uuid]
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert track not in open_slices
            open_slices[track] = (packet.timestamp, event)
        else:
            begin, opened = open_slices.pop(track)
            arguments = {a.name: a.string_value or a.int_value for a in opened.debug_annotations}
            found.append((track, opened.name, begin, packet.timestamp, arguments))
    assert not open_slices
    text = [disassemble(item) for item in INSTRUCTIONS]
    period = 1000 // CONFIG.board.clock_mhz
    assert found == [
        ("load", "load", 10 * period, 30 * period,
         {"instruction": 0, "first cycle": 10, "cycles": 20, "text": text[0]}),
        ("load", "conv1 load", 30 * period, 55 * period,
         {"instruction": 1, "first cycle": 30, "cycles": 25, "text": text[1]}),
        ("matrix", "conv1 matrix", 41 * period, 91 * period,
         {"instruction": 2, "first cycle": 41, "cycles": 50, "text": text[2]}),
    ]


def test_time_is_cycles_at_the_clock_of_the_board(tmp_path: Path):
    slow = dataclasses.replace(CONFIG, board=dataclasses.replace(CONFIG.board, clock_mhz=10))
    path = tmp_path / "run.pftrace"
    write_trace(path, PROGRAM, slow, EVENTS)
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    stamps = [p.timestamp for p in trace.packet if p.HasField("track_event")]
    assert stamps == [1000, 3000, 3000, 5500, 4100, 9100]
