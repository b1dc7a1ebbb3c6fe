"""Per-channel parameters: a narrow buffer, a queue of lane groups and the one in use."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort, instruction_layout
from pliant_hw.requantizer import parameter_layout


def queued_groups(config: AcceleratorConfig) -> int:
    """Return how many lane groups' records wait, besides those presented; a power of two.

    Those of an instruction with offsets are used in turns, while those of the next are fetched.
    """
    return 2 * FEATURE_BANKS if config.displaced_groups else 1


def request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return `first`, the index of a tile's first record, and how many lane groups need some.

    `together`: they have records of their own, at most FEATURE_BANKS groups in turns.
    """
    return data.StructLayout({
        "first": range(config.parameter_depth),
        "groups": instruction_layout(Post)["groups"].shape,
        **({"together": 1} if config.displaced_groups else {}),
    })


class ParameterUnit(wiring.Component):
    """Keeps parameter records; presents those of one lane group, with others at hand.

    The groups of a request take the records of a tile, `cols` of them, in turns; each is presented
    once. Groups `together` have one record after the other, and are presented in turns until they
    are released. A group's records are fetched in ``lanes*parameter_bytes / word + 2`` cycles,
    where a word is the wider of a beat and a record, as soon as there is room for them
    (:func:`queued_groups`).

    Members
    -------
    write : In(BeatWritePort)
    request : In(stream)   see request_layout; `first` is a multiple of cols
    available : Out   the next group's records, or those of all groups together, are in place and
        not claimed
    claim : In   a value is issued that will need them, the first of groups together
    advance : In   a value comes in the next cycle that needs the next group: present it
    release : In   beside `advance`: it is presented for the last time, and those together with it
    parameters : Out   lanes x record
    """

    write: Any
    request: Any
    parameters: Any
    available: Signal
    claim: Signal
    advance: Signal
    release: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        word_bytes = max(config.axi_data_bytes, config.parameter_bytes)
        depth = config.parameter_depth * config.parameter_bytes // word_bytes
        self._memory = BeatMemory(config=config, word_bytes=word_bytes, depth=depth)
        self._records = word_bytes // config.parameter_bytes
        self.beat_address_bits = self._memory.beat_address_bits
        super().__init__({
            "write": In(BeatWritePort(config, self.beat_address_bits)),
            "request": In(stream.Signature(request_layout(config))),
            "available": Out(1),
            "claim": In(1),
            "advance": In(1),
            "release": In(1),
            "parameters": Out(data.ArrayLayout(parameter_layout(config), config.lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.memory = memory = self._memory
        m.d.comb += [
            memory.write.valid.eq(self.write.valid),
            memory.write.address.eq(self.write.address),
            memory.write.data.eq(self.write.data),
        ]

        # Fetching. Places of the queue are counted modulo twice its length.
        length = queued_groups(config)
        words = config.lanes // self._records
        request = self.request.payload
        first = Signal.like(memory.address)
        left = Signal.like(request.groups)
        column = Signal(range(max(2, config.groups_per_tile)))
        together = Signal()
        reading, arriving, completes = Signal(), Signal(), Signal()
        word, arriving_word = Signal(range(max(2, words))), Signal(range(max(2, words)))
        fetched = Signal(range(2 * length))
        arriving_place, oldest, following = (
            Signal.like(fetched, name=name) for name in ("arriving_place", "oldest", "following"))
        last_word, full, freed = Signal(), Signal(), Signal()
        m.d.comb += [
            memory.read_enable.eq(reading),
            self.request.ready.eq(left == 0),
            last_word.eq(word == words - 1),
            full.eq(fetched == oldest ^ length),
            freed.eq(self.advance & self.release),
        ]
        m.d.sync += [
            arriving.eq(reading), arriving_word.eq(word), arriving_place.eq(fetched),
            completes.eq(reading & last_word & (~together | (left == 1))),
        ]
        with m.If((left != 0) & ~reading & (~full | freed)):
            m.d.sync += reading.eq(1)
        with m.If(reading):
            m.d.sync += [memory.address.eq(memory.address + 1), word.eq(word + 1)]
            with m.If(last_word):
                m.d.sync += [reading.eq(0), word.eq(0), left.eq(left - 1), column.eq(column + 1),
                             fetched.eq(fetched + 1)]
                with m.If((column == config.groups_per_tile - 1) & ~together):
                    m.d.sync += [column.eq(0), memory.address.eq(first)]
        with m.If(self.request.valid & self.request.ready):
            begin = request.first >> (self._records - 1).bit_length()
            m.d.sync += [left.eq(request.groups), column.eq(0), first.eq(begin),
                         memory.address.eq(begin)]
            if length > 1:
                m.d.sync += together.eq(request.together)

        # Claiming. `claim` comes late in its cycle.
        waiting = Signal(range(length + 1))  # less one if `claimed`
        claimed = Signal()
        m.d.sync += [
            claimed.eq(self.claim), waiting.eq(waiting + completes - claimed),
            self.available.eq(completes | (waiting > 1 + claimed)
                              | ((waiting == 1 + claimed) & ~self.claim)),
        ]

        # Presenting. The last of groups together is followed by the oldest one.
        behind = Signal.like(following)
        m.d.comb += behind.eq(following + 1)
        with m.If(self.advance):
            m.d.sync += following.eq(behind)
        if length > 1:
            returns = Signal(length)
            with m.If(reading & last_word):
                m.d.sync += returns.bit_select(fetched[:-1], 1).eq(together & (left == 1))
            with m.If(self.advance & ~self.release & returns.bit_select(following[:-1], 1)):
                m.d.sync += following.eq(oldest)
        with m.If(freed):
            m.d.sync += oldest.eq(behind)
        for index in range(words):
            fields = Cat(
                self._unpack(memory.data.word_select(slot, 8 * config.parameter_bytes))
                for slot in range(self._records))
            arrives = arriving & (arriving_word == index)
            if length > 1:
                queue: Memory[Any, Any] = Memory(shape=len(fields), depth=length, init=[])
                m.submodules[f"queue_{index}"] = queue
                write, read = queue.write_port(), queue.read_port(domain="comb")
                m.d.comb += [write.en.eq(arrives), write.addr.eq(arriving_place),
                             write.data.eq(fields), read.addr.eq(following)]
                queued = read.data
            else:
                queued = Signal(len(fields), name=f"queued_{index}", reset_less=True)
                with m.If(arrives):
                    m.d.sync += queued.eq(fields)
            presented = Signal(len(fields), name=f"presented_{index}", reset_less=True)
            with m.If(self.advance):
                m.d.sync += presented.eq(queued)
            m.d.comb += Value.cast(self.parameters).word_select(index, len(fields)).eq(presented)
        return m

    def _unpack(self, record: Value) -> Value:
        layout = parameter_layout(self._config)
        multiplier_bytes = 4 if self._config.parameter_bytes == 16 else 2
        shift_at = 32 + 8 * multiplier_bytes
        return Cat(  # in the order of parameter_layout
            record[:32],
            record[32:32 + self._config.multiplier_bits],
            record[shift_at:shift_at + layout["shift"].shape.width],
        )
