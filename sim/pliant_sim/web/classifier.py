"""The digits network on the simulated core, one image at a time, with all there is to see."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.driver.result import dequantize
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import disassemble
from pliant_sim.rtl import RtlMachine
from pliant_sim.simulator import InstructionSimulator
from pliant_sim.trace import spans


@dataclass(frozen=True, kw_only=True)
class Activity:
    """A unit executed one instruction from cycle `start` up to cycle `end`."""

    unit: str
    layer: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What the core made of one image.

    Attributes
    ----------
    digit : int
        The class with the largest logit, the first of equals.
    logits : list of 10 float
        Real values.
    image : list of 8 lists of 8 int
        What the network saw, 0..16.
    equal : bool
        The instruction simulator computed the same integers.
    cycles : int
        From start to done, by the core's own counter.
    microseconds : float
        `cycles` at the clock that the configuration aims at: an estimate.
    array_use : float
        Useful multiply-accumulates / (rows * cols * cycles).
    layers : list of str
        In the order of the program.
    timeline : list of Activity
        Every instruction that was executed.
    """

    digit: int
    logits: list[float]
    image: list[list[int]]
    equal: bool
    cycles: int
    microseconds: float
    array_use: float
    layers: list[str]
    timeline: list[Activity]


class DigitClassifier:
    """The trained digits network on the RTL of one configuration; calls from threads take turns.

    Parameters
    ----------
    config : AcceleratorConfig
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        from pliant_models import digits

        self.config = config
        self._program = compile_graph(digits.graph(), config)
        self._machine = RtlMachine(config)
        self._simulator = InstructionSimulator(config)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Free the model of the core, when the last classification is done."""
        with self._lock:
            self._machine.close()

    def classify(self, image: NDArray[np.int8]) -> Classification:
        """Run one image, int8 (1, 8, 8) with values 0..16."""
        program, config = self._program, self.config
        with self._lock:
            run = self._machine.run(program, [image], trace=True)
            (expected,) = self._simulator.run(program, [image[None]]).outputs
        (logits,) = run.outputs
        real = dequantize(logits.ravel(), program.outputs[0])
        return Classification(
            digit=int(logits.argmax()), logits=real.tolist(), image=image[0].tolist(),
            equal=bool(np.array_equal(logits, expected[0])), cycles=run.cycles,
            microseconds=run.cycles / config.board.clock_mhz,
            array_use=program.macs / (config.peak_macs_per_cycle * run.cycles),
            layers=[layer.name for layer in program.layers],
            timeline=[
                Activity(unit=span.unit.name.lower(), layer=span.layer or "",
                         text=disassemble(span.instruction), start=span.start, end=span.end)
                for span in spans(program, run.events)
            ],
        )
