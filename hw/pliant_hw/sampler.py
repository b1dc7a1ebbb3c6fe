"""The front of the sampler: turns Matrix instructions into requests to the feature buffer."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix
from pliant.spec.sampling import Offsets
from pliant_hw.displacer import Displacer, displacement_fields, sample_layout
from pliant_hw.layouts import FeatureReadPort, instruction_layout
from pliant_hw.offset_memory import OffsetMemory
from pliant_hw.streams import StreamBuffer
from pliant_hw.walker import Walker

TAG = data.StructLayout({
    "pad_value": 8,
    "bank": 1,
    "base": 12,
    "accumulate": 1,
})
"""What the matrix unit must know of an instruction with each of its words."""


class Sampler(wiring.Component):
    """Walks windows, plain or displaced by offsets, one word a cycle without a bubble.

    Instructions that copy offsets wait until those before have been walked, and then for the copy;
    see OffsetMemory.

    Parameters
    ----------
    config : AcceleratorConfig
        With `offset_depth` 0 there are plain windows alone, by a shorter pipeline.

    Members
    -------
    instruction : In(stream)   decoded Matrix
    offsets : Out(FeatureReadPort)   for the copies
    sample : Out(stream)   see sample_layout; two places
    """

    instruction: Any
    offsets: Any
    sample: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Matrix))),
            "offsets": Out(FeatureReadPort(config)),
            "sample": Out(stream.Signature(sample_layout(config, TAG))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        displaces = config.offset_depth > 0
        displacer = Displacer(config=config, tag=TAG) if displaces else None
        walker = Walker(config=config, tag=displacer.tag if displacer else TAG)
        m.submodules.walker = walker
        m.submodules.pending = pending = StreamBuffer(walker.nest.payload.shape())
        m.submodules.walked = walked = StreamBuffer(self.sample.payload.shape())
        wiring.connect(m, pending.output, walker.nest)
        wiring.connect(m, walked.output, wiring.flipped(self.sample))

        new = self.instruction.payload
        nest, tag = pending.input.payload.nest, pending.input.payload.tag
        own = tag.tag if displacer else tag
        copied = Signal(init=1)
        m.d.comb += [
            pending.input.valid.eq(self.instruction.valid & copied),
            self.instruction.ready.eq(pending.input.ready & copied),
            nest.base.eq(new.source), nest.group_stride.eq(new.group_stride),
            nest.row_stride.eq(new.row_stride),
            nest.height.eq(new.height), nest.width.eq(new.width),
            nest.origin_y.eq(new.origin_y), nest.origin_x.eq(new.origin_x),
            nest.groups.eq(new.groups),
            nest.outer_height.eq(new.kernel_height), nest.outer_width.eq(new.kernel_width),
            nest.outer_step_y.eq(new.dilation_y), nest.outer_step_x.eq(new.dilation_x),
            nest.inner_height.eq(new.out_height), nest.inner_width.eq(new.out_width),
            nest.inner_step_y.eq(new.stride_y), nest.inner_step_x.eq(new.stride_x),
            own.pad_value.eq(new.pad_value), own.bank.eq(new.accumulator_bank),
            own.base.eq(new.accumulator_base), own.accumulate.eq(new.accumulate),
        ]
        if displacer is None:
            self._request_plain(m, walker, walked.input)
            return m

        m.submodules.displacer = displacer
        m.submodules.offset_memory = memory = OffsetMemory(config=config)
        wiring.connect(m, walker.position, displacer.position)
        wiring.connect(m, displacer.sample, walked.input)
        wiring.connect(m, memory.feature, wiring.flipped(self.offsets))
        m.d.comb += [
            *displacement_fields(new, tag.displacement),
            memory.enable.eq(displacer.enable),
            memory.offset_address.eq(displacer.offset_address),
            memory.mask_address.eq(displacer.mask_address),
            displacer.offset.eq(memory.offset), displacer.mask.eq(memory.mask),
        ]
        walking = Signal(range(32))  # instructions that may still read the memory
        enters, leaves = Signal(), Signal()
        copies = Signal()
        done = Signal()  # the copy for the instruction offered
        begun = Signal()
        m.d.comb += [
            enters.eq(pending.input.valid & pending.input.ready),
            leaves.eq(displacer.sample.valid & displacer.sample.ready
                      & displacer.sample.payload.last),
            copies.eq((new.offsets != Offsets.NONE) & new.offset_load),
            memory.instruction.valid.eq(
                self.instruction.valid & copies & (walking == 0) & ~begun & ~done),
            memory.instruction.payload.eq(new),
            copied.eq(~copies | done),
        ]
        m.d.sync += walking.eq(walking + enters - leaves)
        with m.If(memory.instruction.valid & memory.instruction.ready):
            m.d.sync += begun.eq(1)
        with m.Elif(begun & ~memory.busy):
            m.d.sync += [begun.eq(0), done.eq(1)]
        with m.If(enters):
            m.d.sync += done.eq(0)
        return m

    @staticmethod
    def _request_plain(m: Module, walker: Walker, sample: Any) -> None:
        """Ask for the word at each position itself."""
        position, out = walker.position.payload, sample.payload
        m.d.comb += [
            sample.valid.eq(walker.position.valid),
            walker.position.ready.eq(sample.ready),
            out.need.eq(Mux(position.inside, 1 << position.bank, 0)),
            out.bank.eq(position.bank), out.inside.eq(position.inside),
            out.inner_first.eq(position.inner_first), out.first.eq(position.first),
            out.last.eq(position.last), out.tag.eq(position.tag),
        ]
        m.d.comb += [out.address[bank].eq(position.address) for bank in range(FEATURE_BANKS)]
