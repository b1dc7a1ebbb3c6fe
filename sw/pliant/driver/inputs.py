"""Checks of what a program is given to compute on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pliant.spec.program import Program


def batches(program: Program, inputs: Sequence[NDArray[np.int8]]) -> list[NDArray[np.int8]]:
    """Return inputs, int8 (channels, height, width) or with images in front, as the latter.

    Raises
    ------
    ValueError
        Wrong number, shape or type; names the input, what was found and what is allowed.
    """
    if not program.inputs:
        raise ValueError(f"program {program.network!r} has no inputs, so no images to run it on")
    if len(inputs) != len(program.inputs):
        names = ", ".join(tensor.name for tensor in program.inputs)
        raise ValueError(f"program {program.network!r} has {len(program.inputs)} inputs "
                         f"({names}), found {len(inputs)}")
    found = []
    arrays = [np.asarray(value) for value in inputs]
    for info, value in zip(program.inputs, arrays, strict=True):
        if (value.dtype != np.int8 or value.shape[-3:] != info.image_shape
                or value.ndim not in (3, 4)):
            hint = "; quantize() takes real values" if value.dtype.kind == "f" else ""
            raise ValueError(
                f"input {info.name!r} of {program.network!r}: found {value.dtype} "
                f"{value.shape}, allowed is int8 {info.image_shape} (channels, height, width), "
                f"or that with images in front{hint}")
        found.append(value if value.ndim == 4 else value[np.newaxis])
    if len({value.shape[:-3] for value in arrays}) > 1 or not len(found[0]):
        raise ValueError(f"inputs of {program.network!r} must hold the same number of images, one "
                         f"or more; found {', '.join(str(value.shape) for value in arrays)}")
    return found
