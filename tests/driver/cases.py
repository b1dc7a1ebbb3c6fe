"""Small programs with their expected results, and devices that misbehave."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.reference import evaluate
from pliant.driver.accelerator import Accelerator
from pliant.driver.result import RunResult
from pliant.spec.config import preset
from pliant.spec.program import Program
from pliant_models.random_layers import random_inputs, random_layer
from pliant_models.random_networks import random_network
from pliant_sim.virtual_device import VirtualBuffer, VirtualDevice

CONFIG = preset("tiny")
MEMORY_BYTES = 1 << 20


@dataclass(frozen=True)
class Case:
    """A program, a batch of inputs and what must come out."""

    program: Program
    inputs: list[NDArray[np.int8]]
    expected: dict[str, NDArray[np.int8]]

    def is_exact(self, result: RunResult, first: int = 0) -> bool:
        """Return whether a batch that began at image `first` is right."""
        return all(
            np.array_equal(value, self.expected[name][first:first + len(value)])
            for name, value in result.outputs.items())

    def run_exactly(self, accelerator: Accelerator, images: int = 1) -> None:
        """Run the first images and compare all outputs."""
        assert self.is_exact(accelerator.run(*(value[:images] for value in self.inputs)))


@functools.cache
def layer_case(seed: int, images: int = 4, kind: str | None = None) -> Case:
    """Return one random layer."""
    graph = random_layer(seed, multiplier_bits=CONFIG.multiplier_bits, kind=kind)
    batch = random_inputs(graph, seed, images=images)
    return Case(compile_graph(graph, CONFIG), [batch[tensor.name] for tensor in graph.inputs],
                evaluate(graph, batch, multiplier_bits=CONFIG.multiplier_bits))


@functools.cache
def network_case(seed: int, images: int = 4) -> Case:
    """Return a random network."""
    graph = random_network(seed, multiplier_bits=CONFIG.multiplier_bits)
    batch = random_inputs(graph, seed, images=images)
    return Case(compile_graph(graph, CONFIG), [batch[tensor.name] for tensor in graph.inputs],
                evaluate(graph, batch, multiplier_bits=CONFIG.multiplier_bits))


class FaultyDevice(VirtualDevice):
    """A virtual device that loses interrupts, fails to allocate, or is disturbed while it runs.

    Attributes
    ----------
    lose_interrupts : bool
        Let the core run, but never say that it has stopped.
    allocations_left : int or None
        Allocations that succeed before one fails.
    disturb : (int, callable) or None
        Cycles after which, in the next wait, the function is called once.
    """

    lose_interrupts = False
    allocations_left: int | None = None
    disturb: tuple[int, Callable[[], None]] | None = None

    def wait(self, timeout_s: float) -> bool:
        if self.disturb is not None:
            (cycles, act), self.disturb = self.disturb, None
            self.core.run(cycles)
            act()
        came = super().wait(timeout_s)
        return came and not self.lose_interrupts

    def allocate(self, nbytes: int) -> VirtualBuffer:
        if self.allocations_left is not None:
            if not self.allocations_left:
                raise MemoryError("nothing left")
            self.allocations_left -= 1
        return super().allocate(nbytes)

    def heal(self) -> None:
        """Behave from now on."""
        self.lose_interrupts, self.allocations_left, self.disturb = False, None, None
        self.core.clear_faults()
