"""Payloads and ports that join units; field layouts come from the instruction set."""

from __future__ import annotations

from amaranth import Shape, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Instruction, fields
from pliant.spec.registers import Fault, FaultUnit

INDEX_BITS = 24
"""Width of an instruction's index in the program."""

FEATURE_READ_LATENCY = 2
"""Cycles from the acceptance of a feature buffer read to its data."""


def instruction_layout(kind: type[Instruction]) -> data.StructLayout:
    """Return the decoded fields of an instruction class, and `index`, its place in the program."""
    members: dict[str, Shape] = {
        field.name: signed(field.width) if field.signed else unsigned(field.width)
        for field in fields(kind)
    }
    return data.StructLayout({**members, "index": unsigned(INDEX_BITS)})


def feature_address_bits(config: AcceleratorConfig) -> int:
    """Return the width of an address within one bank of the feature buffer."""
    return (config.feature_depth - 1).bit_length()


class FeatureReadPort(wiring.Signature):
    """Reads one word from each bank in `mask`, all in one cycle.

    A request is accepted when `valid` and `ready` are high; `ready` may depend on `mask`. `data`
    holds the words FEATURE_READ_LATENCY cycles later, for that one cycle; there is no
    backpressure on it. Banks outside `mask` return undefined words. `granted` are the banks that
    are read while `valid`, even where others are not and the request is not accepted: who keeps
    their words need not ask for them again.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        address = unsigned(feature_address_bits(config))
        super().__init__({
            "valid": Out(1),
            "ready": In(1),
            "mask": Out(FEATURE_BANKS),
            "address": Out(data.ArrayLayout(address, FEATURE_BANKS)),
            "granted": In(FEATURE_BANKS),
            "data": In(data.ArrayLayout(unsigned(8 * config.lanes), FEATURE_BANKS)),
        })


class FeatureWritePort(wiring.Signature):
    """Writes one word to each bank in `mask`, all in one cycle, when `valid` and `ready`.

    `granted` are the banks that are written while `valid`, even where others are not.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        address = unsigned(feature_address_bits(config))
        super().__init__({
            "valid": Out(1),
            "ready": In(1),
            "mask": Out(FEATURE_BANKS),
            "granted": In(FEATURE_BANKS),
            "address": Out(data.ArrayLayout(address, FEATURE_BANKS)),
            "data": Out(data.ArrayLayout(unsigned(8 * config.lanes), FEATURE_BANKS)),
        })


class BeatWritePort(wiring.Signature):
    """Writes consecutive AXI beats into a memory of wider words; always ready.

    `address` counts beats: word ``address // beats_per_word``, lowest beat in the lowest bits.
    """

    def __init__(self, config: AcceleratorConfig, address_bits: int) -> None:
        super().__init__({
            "valid": Out(1),
            "address": Out(address_bits),
            "data": Out(8 * config.axi_data_bytes),
        })


class FaultReport(wiring.Signature):
    """A unit's fault: `valid` is high for one cycle or stays high until reset."""

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({
            "valid": Out(1),
            "code": Out(Fault),
            "unit": Out(FaultUnit),
            "index": Out(INDEX_BITS),
            "address": Out(config.axi_address_bits),
        })


