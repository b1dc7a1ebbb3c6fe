"""A small program with its expected results, and how raw register writes run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.compiler.reference import evaluate
from pliant.driver.image import BlockImage
from pliant.spec.config import preset
from pliant.spec.program import Program
from pliant.spec.registers import REGISTERS, Control, Interrupt
from pliant_models.random_layers import random_inputs
from pliant_models.random_networks import random_network

CONFIG = preset("tiny")
ENABLE_DONE = int(Interrupt.DONE | Interrupt.FAULT)


@dataclass(frozen=True)
class Case:
    """A compiled network with inputs and the outputs that the integer graph gives."""

    program: Program
    inputs: list[NDArray[np.int8]]
    outputs: list[NDArray[np.int8]]

    def image(self, base: int) -> BlockImage:
        """The program with its inputs as bytes in memory."""
        image = BlockImage(self.program, CONFIG, base=base)
        image.poison()
        for index, tensor in enumerate(self.inputs):
            image.write_input(index, tensor)
        return image

    def size(self) -> int:
        return self.image(0).data.nbytes

    def require_exact(self, memory: NDArray[np.uint8]) -> None:
        image = self.image(0)
        image.data[:] = memory
        for info, expected in zip(self.program.outputs, self.outputs, strict=True):
            assert np.array_equal(image.read_tensor(info), expected), info.name


def make_case(seed: int) -> Case:
    graph = random_network(seed, multiplier_bits=CONFIG.multiplier_bits)
    batch = random_inputs(graph, seed, images=1)
    values = evaluate(graph, batch, multiplier_bits=CONFIG.multiplier_bits)
    program = compile_graph(graph, CONFIG)
    return Case(program, [batch[tensor.name][0] for tensor in graph.inputs],
                [values[info.name][0] for info in program.outputs])


def set_up(write: Callable[[int, int], Any], image: BlockImage) -> None:
    """Write the registers that a run needs; `write` takes a byte offset and 32 bits."""
    values = {
        "program_base": image.program_base, "program_length": image.program_length,
        "window_base": image.window[0], "window_limit": image.window[1],
        **{f"segment_{index}": base for index, base in enumerate(image.segment_bases)},
    }
    for name, value in values.items():
        register = REGISTERS[name]
        for word in range(register.words):
            write(register.address + 4 * word, value >> 32 * word & 0xFFFF_FFFF)


def start(write: Callable[[int, int], Any]) -> None:
    write(REGISTERS["control"].address, int(Control.START))
