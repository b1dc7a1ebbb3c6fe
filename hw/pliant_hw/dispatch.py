"""Decodes instructions, queues them for the units and keeps them in order with tokens."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import (
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    MAX_TOKENS,
    OPCODE_BITS,
    TOKEN_BITS,
    End,
    Instruction,
    Unit,
    fields,
)
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.layouts import INDEX_BITS, FaultReport, instruction_layout
from pliant_hw.legality import AGREE_LATENCY, LEGAL_LATENCY, LegalityChecker

IN_FLIGHT = 8
"""Instructions that a unit may have accepted and not completed."""

WORD = data.StructLayout({
    "word": unsigned(8 * INSTRUCTION_BYTES),
    "index": unsigned(INDEX_BITS),
})
"""An instruction as it comes from memory, and its place in the program."""

UNIT_INSTRUCTIONS: dict[Unit, type[Instruction]] = {
    kind.unit: kind for kind in INSTRUCTIONS if kind.unit is not None
}


class Dispatcher(wiring.Component):
    """Takes the program in order; hands each unit its instructions when their tokens are there.

    One instruction every three cycles is decoded. It goes to its unit three cycles after the pulse
    that completes the last instruction it waits for, at the earliest. An instruction that is
    illegal stops the dispatcher and goes to no unit; the fault names it. `end` comes when End has
    been decoded and every unit is idle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    program : In(stream)   WORD
    exhausted : In   every word of the program has been taken
    halt : In   hand out nothing more, from the next cycle on
    end_seen : Out   End has been decoded: nothing more is taken
    end : Out   pulse: program completed
    fault : Out(FaultReport)
    index : Out   index of the instruction decoded last
    <unit>_instruction : Out(stream)   for load, matrix, post, store
    <unit>_done : In   pulse for each completed instruction, in order
    <unit>_start : Out   pulse: an instruction goes to its unit
    <unit>_wait_token : Out   the next instruction waits for a token
    """

    program: Any
    fault: Any
    exhausted: Signal
    halt: Signal
    end_seen: Signal
    end: Signal
    index: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        members: dict[str, wiring.Member] = {}
        for unit, kind in UNIT_INSTRUCTIONS.items():
            name = unit.name.lower()
            members[f"{name}_instruction"] = Out(stream.Signature(instruction_layout(kind)))
            members[f"{name}_done"] = In(1)
            members[f"{name}_start"] = Out(1)
            members[f"{name}_wait_token"] = Out(1)
        super().__init__({
            "program": In(stream.Signature(WORD)),
            "exhausted": In(1),
            "halt": In(1),
            "end_seen": Out(1),
            "end": Out(1),
            "fault": Out(FaultReport(config)),
            "index": Out(INDEX_BITS),
            **members,
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word: Any = Signal(WORD)
        full = Signal()
        legal = Signal()
        checked = Signal()
        opcode = word.word[:OPCODE_BITS]
        stopped = Signal()
        taken = Signal()
        m.d.comb += [
            self.program.ready.eq(~full & ~self.end_seen & ~stopped),
            self.index.eq(word.index),
        ]
        m.d.sync += checked.eq(full)
        with m.If(self.program.valid & self.program.ready):
            m.d.sync += [word.eq(self.program.payload), full.eq(1), checked.eq(0)]
        m.submodules.checker = checker = LegalityChecker(config=self._config)
        m.d.comb += [checker.word.eq(word.word), legal.eq(checker.legal)]
        ready = Signal()  # its fields are known to be legal or not
        m.d.comb += ready.eq(full & checked)
        # What they say together comes a cycle later: the instruction may be in its queue by then,
        # but `refused` is there before the queue shows it. No new word has come yet.
        assert LEGAL_LATENCY == 1
        assert AGREE_LATENCY == 2
        late = Signal()
        late_index = Signal(INDEX_BITS, reset_less=True)
        refused = Signal()
        refuse = Signal()
        m.d.comb += refuse.eq(refused | (late & ~checker.agree))
        m.d.sync += [late.eq(ready & legal), late_index.eq(word.index), refused.eq(refuse)]
        with m.If(taken):
            m.d.sync += [full.eq(0), checked.eq(0)]

        overflow = Signal(len(Unit) ** 2)  # of the cycle before
        exhausted = Signal()
        m.d.sync += exhausted.eq(self.exhausted)
        with m.If(~stopped):
            with m.If(refused):
                m.d.sync += [stopped.eq(1), self._report(Fault.ILLEGAL_INSTRUCTION, late_index)]
            with m.Elif(ready & ~legal):
                m.d.sync += [stopped.eq(1), self._report(Fault.ILLEGAL_INSTRUCTION, word.index)]
            with m.Elif(overflow.any()):
                m.d.sync += [stopped.eq(1), self._report(Fault.TOKEN_OVERFLOW, word.index)]
            with m.Elif(exhausted & ~full & ~late & ~self.end_seen):
                m.d.sync += [stopped.eq(1), self._report(Fault.PROGRAM_END, word.index)]
        m.d.comb += self.fault.valid.eq(stopped)

        idle = []
        tokens = {
            (source, target): Signal(range(MAX_TOKENS + 1),
                                     name=f"tokens_{source.name}_{target.name}".lower())
            for source in Unit for target in Unit
        }
        consumed: dict[Unit, Value] = {}
        sent: dict[Unit, Value] = {}
        for unit, kind in UNIT_INSTRUCTIONS.items():
            consumed[unit], sent[unit], unit_taken, unit_idle = self._queue(
                m, unit, kind, word, ready & legal & (opcode == kind.opcode), tokens,
                self.halt | refused)
            idle.append(unit_idle)
            with m.If(unit_taken):
                m.d.comb += taken.eq(1)
        for index, ((source, target), count) in enumerate(tokens.items()):
            plus, minus = sent[source][target], consumed[target][source]
            m.d.sync += overflow[index].eq(plus & ~minus & (count == MAX_TOKENS))
            with m.If(plus & ~minus):
                m.d.sync += count.eq(count + 1)
            with m.Elif(minus & ~plus):
                m.d.sync += count.eq(count - 1)

        with m.If(ready & legal & (opcode == End.opcode)):
            m.d.comb += taken.eq(1)
            m.d.sync += self.end_seen.eq(1)
        # An overflow by the very last instruction is reported in the cycle of `end`, and wins.
        over = Signal()
        m.d.sync += self.end.eq(0)
        with m.If(self.end_seen & Cat(idle).all() & ~over & ~stopped & ~refuse):
            m.d.sync += [self.end.eq(1), over.eq(1)]
        return m

    def _report(self, code: Fault, index: Value) -> list[object]:
        return [self.fault.code.eq(code), self.fault.unit.eq(FaultUnit.CONTROL),
                self.fault.index.eq(index)]

    def _queue(
        self,
        m: Module,
        unit: Unit,
        kind: type[Instruction],
        word: data.View[data.StructLayout],
        offered: Value,
        tokens: dict[tuple[Unit, Unit], Signal],
        hold: Value,
    ) -> tuple[Value, Value, Value, Value]:
        """Queue one unit's instructions; return tokens consumed and sent, taken, idle."""
        name = unit.name.lower()
        out = getattr(self, f"{name}_instruction")
        done = Signal(name=f"{name}_completed")
        m.d.sync += done.eq(getattr(self, f"{name}_done"))
        start = getattr(self, f"{name}_start")
        entry = data.StructLayout({
            "fields": instruction_layout(kind), "wait": TOKEN_BITS, "signal": TOKEN_BITS,
        })
        queue = SyncFIFOBuffered(width=entry.size, depth=self._config.queue_depth)
        # It shows a word two cycles after it was written; no unit completes that quickly.
        signals = SyncFIFOBuffered(width=TOKEN_BITS, depth=IN_FLIGHT)
        m.submodules[f"{name}_queue"] = queue
        m.submodules[f"{name}_signals"] = signals

        tail: Any = Signal(entry, name=f"{name}_tail")
        raw = word.word
        m.d.comb += [tail.wait.eq(raw[OPCODE_BITS:]),
                     tail.signal.eq(raw[OPCODE_BITS + TOKEN_BITS:]),
                     tail.fields.index.eq(word.index)]
        for field in fields(kind):
            m.d.comb += tail.fields[field.name].eq(raw[field.offset:field.offset + field.width])
        taken = Signal(name=f"{name}_taken")
        m.d.comb += [queue.w_en.eq(offered), queue.w_data.eq(tail),
                     taken.eq(offered & queue.w_rdy)]

        head = data.View(entry, queue.r_data)
        available = Signal(TOKEN_BITS, name=f"{name}_available")
        complete = Signal(name=f"{name}_complete")
        # Its tokens and a place in flight are there. Stays: nobody else takes them.
        satisfied = Signal(name=f"{name}_satisfied")
        m.d.comb += [available[source].eq(tokens[source, unit] != 0) for source in Unit]
        m.d.comb += [
            complete.eq(~(head.wait & ~available).any()),
            out.valid.eq(satisfied),
            out.payload.eq(head.fields),
            start.eq(out.valid & out.ready),
            queue.r_en.eq(start),
            signals.w_en.eq(start),
            signals.w_data.eq(head.signal),
            signals.r_en.eq(done),
            getattr(self, f"{name}_wait_token").eq(queue.r_rdy & ~complete),
        ]
        consumed = Signal(TOKEN_BITS, name=f"{name}_consumed")
        sent = Signal(TOKEN_BITS, name=f"{name}_sent")
        in_flight = Signal(range(IN_FLIGHT + 1), name=f"{name}_in_flight")
        m.d.sync += [
            satisfied.eq(queue.r_rdy & complete & (in_flight != IN_FLIGHT)
                         & ~hold & ~start),
            in_flight.eq(in_flight + start - done),
        ]
        with m.If(start):
            m.d.comb += consumed.eq(head.wait)
        with m.If(done):
            m.d.comb += sent.eq(signals.r_data)
        return consumed, sent, taken, ~queue.r_rdy & (queue.w_level == 0) & (in_flight == 0)
