"""What the driver costs beside the core: time and register accesses of a batch of digits.

``python -m pliant_sim.driver_overhead`` runs 100 digits on the virtual board, by PYNQ's stock
Overlay, and on the virtual device, and prints both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.compiler import compile_graph
from pliant.driver.accelerator import Accelerator
from pliant.spec.config import PRESETS, AcceleratorConfig, preset
from pliant.spec.platform import (
    CORE_INSTANCE,
    INTERRUPT_SPACE_BYTES,
    PLATFORMS,
    Platform,
    platforms_of,
)
from pliant.spec.program import Program
from pliant.spec.registers import REGISTER_SPACE_BYTES
from pliant_models import digits
from pliant_sim.core import RtlCore
from pliant_sim.virtual_device import VirtualDevice

IMAGES = 100
_ACCESSES = ("read", "write")


class Simulation:
    """Measures the time that the simulation of clock cycles takes.

    Parameters
    ----------
    steps : sequence of (object, names of methods)
        Methods that let simulated time pass; they are replaced by ones that are timed.
    """

    def __init__(self, steps: Sequence[tuple[object, Sequence[str]]]) -> None:
        self.seconds = 0.0
        self._inside = False
        for owner, names in steps:
            for name in names:
                setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.perf_counter

        def timed(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            self._inside, start = True, clock()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                self.seconds += clock() - start
        return timed


class Accesses:
    """Counts calls of an object's `read` and `write` inside `with`.

    Parameters
    ----------
    owner : object
        Its methods take an address first.
    addresses : range
        Which count.

    Attributes
    ----------
    count : int
    """

    def __init__(self, owner: object, addresses: range) -> None:
        self.count = 0
        self._owner = owner
        self._addresses = addresses

    def __enter__(self) -> Accesses:
        for name in _ACCESSES:
            setattr(self._owner, name, self._counted(getattr(self._owner, name)))
        return self

    def __exit__(self, *error: object) -> None:
        for name in _ACCESSES:
            delattr(self._owner, name)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(address: int, *value: int) -> Any:
            self.count += address in self._addresses
            return function(address, *value)
        return counted


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """One measurement; seconds are wall time.

    Attributes
    ----------
    device : str
    images : int
    seconds : float
        Of the whole batch.
    simulation_seconds : float
        Of simulating clock cycles.
    cycles : int
        From start to done of all images, by the core's counter.
    simulated_cycles : int
        All that passed: those, and those of register accesses.
    driver_accesses : int
        Reads and writes of the core's registers by the driver.
    controller_accesses : int
        Reads and writes of the interrupt controller's registers by PYNQ and the driver.
    """

    device: str
    images: int
    seconds: float
    simulation_seconds: float
    cycles: int
    simulated_cycles: int
    driver_accesses: int
    controller_accesses: int

    @property
    def share(self) -> float:
        """Share of the time in which no clock cycle is simulated."""
        return 1 - self.simulation_seconds / self.seconds

    @property
    def share_with_accesses(self) -> float:
        """The same, with the clock cycles outside runs (register accesses) as overhead too."""
        return 1 - self.simulation_seconds * self.cycles / self.simulated_cycles / self.seconds

    def text(self) -> str:
        """Return the figures in lines."""
        each = 1e6 / self.images
        return "\n".join((
            f"{self.device}: {self.images} images in {self.seconds:.3f} s",
            f"  simulating {self.simulation_seconds * each:.0f} us, driver "
            f"{(self.seconds - self.simulation_seconds) * each:.0f} us an image: "
            f"{self.share:.1%} of the time",
            f"  {self.cycles / self.images:.0f} cycles an image from start to done, "
            f"{self.simulated_cycles / self.images:.0f} with register accesses; with these as "
            f"overhead {self.share_with_accesses:.1%}",
            f"  {(self.driver_accesses + self.controller_accesses) / self.images:.2f} register "
            f"accesses an image: {self.driver_accesses / self.images:.2f} by the driver to the "
            f"core, {self.controller_accesses / self.images:.2f} to the interrupt controller",
        ))


def measure(
    name: str, accelerator: Accelerator, core: RtlCore, program: Program,
    images: NDArray[np.int8], expected: NDArray[np.int8], *,
    steps: Sequence[tuple[object, Sequence[str]]] = (), controller: Accesses | None = None,
) -> Overhead:
    """Run a batch once to count accesses and once for the time, without what counts.

    Parameters
    ----------
    name : str
        For the figures.
    accelerator : Accelerator
        On a virtual device or board.
    core : RtlCore
        What it drives.
    program, images, expected
        What to run, and what comes out; ValueError if it does not.
    steps : sequence of (object, names of methods)
        What lets simulated time pass, beside the core's own methods.
    controller : Accesses or None
        Those to an interrupt controller, if there is one.
    """
    accelerator.load(program)
    accelerator.run(images[:2])
    with Accesses(accelerator.device, range(REGISTER_SPACE_BYTES)) as driver, (
            controller or nullcontext()):
        accelerator.run(images)
    simulation = Simulation([(core, ("run", "read_word", "write_word")), *steps])
    before = core.statistics()
    start = time.perf_counter()
    result = accelerator.run(images)
    seconds = time.perf_counter() - start
    if not np.array_equal(result.output, expected):
        raise ValueError(f"{name}: results differ from the reference")
    return Overhead(
        device=name, images=len(images), seconds=seconds, simulation_seconds=simulation.seconds,
        cycles=sum(result.cycles), driver_accesses=driver.count,
        controller_accesses=0 if controller is None else controller.count,
        simulated_cycles=core.statistics().cycle - before.cycle)


def on_virtual_device(config: AcceleratorConfig, images: int = IMAGES) -> Overhead:
    """Measure without PYNQ."""
    program, batch, expected = _network(config, images)
    device = VirtualDevice.of(config)
    with Accelerator(device, config) as accelerator:
        return measure("virtual device", accelerator, device.core, program, batch, expected)


def on_virtual_board(
    platform: Platform, config: AcceleratorConfig, images: int = IMAGES
) -> Overhead:
    """Measure through PYNQ."""
    from pynq import Overlay

    import pliant.driver.pynq  # noqa: F401 - lets PYNQ bind the driver
    from pliant_sim.board.device import VirtualBoard

    program, batch, expected = _network(config, images)
    start = platform.interrupt_address
    with tempfile.TemporaryDirectory() as directory, VirtualBoard(platform, config) as board:
        overlay = Overlay(str(board.write_overlay(Path(directory))), device=board)
        with getattr(overlay, CORE_INSTANCE).accelerator(config) as accelerator:
            return measure(
                f"virtual board {platform.name}, PYNQ", accelerator, board.hardware.core, program,
                batch, expected, steps=[(board.hardware, ("step",))],
                controller=Accesses(board.hardware, range(start, start + INTERRUPT_SPACE_BYTES)))


def _network(
    config: AcceleratorConfig, images: int
) -> tuple[Program, NDArray[np.int8], NDArray[np.int8]]:
    golden = digits.golden()
    program = compile_graph(golden.graph, config)
    return program, golden.images[:images], golden.integers[program.outputs[0].name][:images]


def main() -> None:
    """Print the figures of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=[*PRESETS], default="pynq_z2")
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    config = preset(options.config)
    board = (platforms_of(config) or [PLATFORMS["ultra96"]])[0]
    for found in (on_virtual_device(config, options.images),
                  on_virtual_board(board, config, options.images)):
        print(found.text())


if __name__ == "__main__":
    main()
