"""What a run computed, and the step from integers to real values and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant.spec.program import Program, TensorInfo


def quantize(real: NDArray[Any], info: TensorInfo) -> NDArray[np.int8]:
    """Return the int8 values of real ones: ``round(real / scale) + zero_point``, saturated.

    Ties go to even, as in Brevitas and ONNX. TypeError for integers, which need no quantizing;
    ValueError for values that are no numbers.
    """
    if not np.issubdtype(real.dtype, np.floating):
        raise TypeError(f"input {info.name!r}: found {real.dtype}, real values are float")
    if not np.isfinite(real).all():
        raise ValueError(f"input {info.name!r} holds values that are infinite or no numbers")
    scaled = np.rint(real.astype(np.float64) / info.scale) + info.zero_point
    integers: NDArray[np.int8] = np.clip(scaled, INT8_MIN, INT8_MAX).astype(np.int8)
    return integers


def dequantize(integers: NDArray[np.int8], info: TensorInfo) -> NDArray[np.float64]:
    """Return ``(integers - zero_point) * scale``."""
    return (integers.astype(np.float64) - info.zero_point) * info.scale


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """One image or a batch.

    Attributes
    ----------
    program : Program
    outputs : dict of int8 (images, channels, height, width)
        By the names of the program's outputs; without the first axis for one image given without.
    cycles : tuple of int
        Cycles of each image, by the core's own counter.
    """

    program: Program
    outputs: dict[str, NDArray[np.int8]]
    cycles: tuple[int, ...]

    @property
    def output(self) -> NDArray[np.int8]:
        """The only output; ValueError when there are several."""
        if len(self.outputs) != 1:
            raise ValueError(f"program {self.program.network!r} has several outputs: "
                             f"{', '.join(self.outputs)}; take one from `outputs`")
        return next(iter(self.outputs.values()))

    def real(self, name: str) -> NDArray[np.float64]:
        """Return the real values of an output; ValueError if there is none of that name."""
        for info in self.program.outputs:
            if info.name == name:
                return dequantize(self.outputs[name], info)
        raise ValueError(f"program {self.program.network!r} has no output {name!r}; it has "
                         f"{', '.join(self.outputs)}")

    def classes(self) -> NDArray[np.intp]:
        """Return the index of the largest value of the only output, for each image.

        The first of equals wins.
        """
        flat: NDArray[np.intp] = self.output.reshape(len(self.cycles), -1).argmax(axis=1)
        return flat
