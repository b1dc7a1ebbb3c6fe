"""An AXI4 memory for Amaranth's simulator that stalls at random and checks the master's manners."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pliant.spec.config import AcceleratorConfig
from pliant_hw.axi import Response
from pliant_hw.memory_ports import MemoryPorts

PAGE_BYTES = 4096


class ProtocolError(AssertionError):
    """The master broke a rule of AXI4."""


@dataclass
class _Burst:
    axi_id: int
    address: int
    beats: int
    ready_at: int
    sent: int = 0


@dataclass
class _Watch:
    """Checks that an offered payload stays until it is accepted (A3.2.1)."""

    channel: str
    held: tuple[int, ...] | None = None

    def check(self, valid: int, ready: int, payload: tuple[int, ...]) -> None:
        if self.held is not None and (not valid or payload != self.held):
            raise ProtocolError(f"{self.channel}: valid or payload changed before ready")
        self.held = payload if valid and not ready else None


@dataclass(kw_only=True)
class AxiMemory:
    """`data` at `base`; each channel is stalled for a random `stall` of the cycles.

    `latency` bounds the cycles from an address to its first beat or response. `respond` maps a
    burst's address to its response. Bursts of different ids may overtake one another. `ports`: it
    is behind one of a core's memory ports, not on the core's own bus.
    """

    config: AcceleratorConfig
    ports: MemoryPorts | None = None
    data: bytearray
    base: int = 0
    seed: int = 0
    stall: float = 0.3
    latency: tuple[int, int] = (1, 20)
    respond: Callable[[int], Response] = lambda address: Response.OKAY
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    """(id, address, beats) of every AR."""
    writes: list[tuple[int, int]] = field(default_factory=list)
    """(address, beats) of every AW."""
    read_beats: int = 0
    write_beats: int = 0
    responses: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        ratio = 1 if self.ports is None else self.ports.ratio(self.config)
        self.beat_bytes = self.config.axi_data_bytes // ratio
        self.burst_beats = self.config.axi_burst_beats * ratio

    def _stalls(self) -> bool:
        return self._random.random() < self.stall

    def _check_address(self, channel: str, address: int, beats: int) -> None:
        size = beats * self.beat_bytes
        if beats > self.burst_beats:
            raise ProtocolError(f"{channel}: burst of {beats} beats")
        if address // PAGE_BYTES != (address + size - 1) // PAGE_BYTES:
            raise ProtocolError(f"{channel}: {address:#x} + {size} crosses a 4 KiB boundary")
        if address % self.beat_bytes:
            raise ProtocolError(f"{channel}: {address:#x} is unaligned")

    def _word(self, address: int) -> int:
        offset = address - self.base
        size = self.beat_bytes
        return int.from_bytes(self.data[offset:offset + size].ljust(size, b"\0"), "little")

    async def serve_reads(self, ctx: Any, bus: Any) -> None:
        """Answer `bus` (AxiReadSignature of a master) for ever."""
        ar, r = bus.ar, bus.r
        pending: dict[int, deque[_Burst]] = {0: deque(), 1: deque()}
        current: _Burst | None = None
        watch = _Watch("AR")
        cycle = 0
        while True:
            ctx.set(ar.ready, not self._stalls())
            if current is None and not self._stalls():
                heads = [q[0] for q in pending.values() if q and q[0].ready_at <= cycle]
                if heads:
                    current = self._random.choice(heads)
                    address = current.address + current.sent * self.beat_bytes
                    ctx.set(r.payload, {
                        "id": current.axi_id, "data": self._word(address),
                        "resp": self.respond(current.address),
                        "last": current.sent == current.beats - 1,
                    })
            ctx.set(r.valid, current is not None)
            *_, valid, ready, payload, taken = await ctx.tick().sample(
                ar.valid, ar.ready, ar.payload, r.ready
            )
            cycle += 1
            watch.check(valid, ready, (payload.id, payload.addr, payload.len))
            if valid and ready:
                beats = payload.len + 1
                self._check_address("AR", payload.addr, beats)
                self.reads.append((payload.id, payload.addr, beats))
                delay = self._random.randint(*self.latency)
                pending[payload.id].append(_Burst(payload.id, payload.addr, beats, cycle + delay))
            if current is not None and taken:
                self.read_beats += 1
                current.sent += 1
                if current.sent == current.beats:
                    pending[current.axi_id].popleft()
                current = None

    async def serve_writes(self, ctx: Any, bus: Any) -> None:
        """Accept the writes of `bus` (AxiWriteSignature of a master) for ever."""
        aw, w, b = bus.aw, bus.w, bus.b
        addresses: deque[_Burst] = deque()
        early: deque[tuple[int, int, int]] = deque()
        unanswered: deque[tuple[int, Response]] = deque()
        watches = {"AW": _Watch("AW"), "W": _Watch("W")}
        answering = False
        cycle = 0
        while True:
            ctx.set(aw.ready, not self._stalls())
            ctx.set(w.ready, not self._stalls())
            if not answering and unanswered and unanswered[0][0] <= cycle:
                ctx.set(b.payload, {"id": 0, "resp": unanswered[0][1]})
                answering = True
            ctx.set(b.valid, answering)
            *_, aw_valid, aw_ready, a, w_valid, w_ready, beat, b_ready = await ctx.tick().sample(
                aw.valid, aw.ready, aw.payload, w.valid, w.ready, w.payload, b.ready
            )
            cycle += 1
            watches["AW"].check(aw_valid, aw_ready, (a.id, a.addr, a.len))
            watches["W"].check(w_valid, w_ready, (beat.data, beat.strb, beat.last))
            if answering and b_ready:
                answering = False
                unanswered.popleft()
                self.responses += 1
            if aw_valid and aw_ready:
                self._check_address("AW", a.addr, a.len + 1)
                self.writes.append((a.addr, a.len + 1))
                addresses.append(_Burst(a.id, a.addr, a.len + 1, 0))
            if w_valid and w_ready:
                self.write_beats += 1
                early.append((beat.data, beat.strb, beat.last))
            while early and addresses:
                burst = addresses[0]
                self._store(burst, *early.popleft())
                if burst.sent == burst.beats:
                    addresses.popleft()
                    delay = self._random.randint(*self.latency)
                    unanswered.append((cycle + delay, self.respond(burst.address)))

    def _store(self, burst: _Burst, word: int, strobe: int, last: int) -> None:
        size = self.beat_bytes
        offset = burst.address + burst.sent * size - self.base
        burst.sent += 1
        if last != (burst.sent == burst.beats):
            raise ProtocolError(f"W: last = {last} on beat {burst.sent} of {burst.beats}")
        for index, byte in enumerate(word.to_bytes(size, "little")):
            if strobe >> index & 1:
                self.data[offset + index] = byte
