"""Trained quantized models on disk: int4 weights as nibbles with their scales, the rest as it is.

A packed weight is restored as integer times scale. Its quantizer finds the same integers and scale
again, for the largest magnitude of a channel is 7 unless the scale is the smallest there is.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from brevitas.nn import QuantConv2d
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, fx

INTEGERS, SCALE = "integers", "scale"
"""What a packed ``layer.weight`` becomes: ``layer.weight.integers`` and ``layer.weight.scale``."""

LOW, HIGH = 0x0F, 4
"""Mask and shift of the first and second of two integers in a byte, each plus 8."""

OFFSET = 8


def save(model: fx.GraphModule, path: Path, notes: dict[str, str]) -> None:
    """Write the parameters and buffers of a quantized model, and notes about them."""
    state = dict(model.state_dict())
    exact = copy.deepcopy(model).double().eval()
    for name, layer in _narrow(exact):
        with torch.no_grad():
            weight = layer.quant_weight()
        integers = torch.round(weight.value / weight.scale).to(torch.int64)
        del state[f"{name}.weight"]
        state[f"{name}.weight.{INTEGERS}"] = pack(integers)
        state[f"{name}.weight.{SCALE}"] = weight.scale.reshape(-1).float()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path, notes)


def load(model: fx.GraphModule, path: Path) -> None:
    """Set the parameters of a quantized model of the same layers; leaves evaluation mode on.

    Raises
    ------
    RuntimeError
        The file is of other layers.
    """
    state = load_file(path)
    for name, layer in _narrow(model):
        keys = [f"{name}.weight.{part}" for part in (INTEGERS, SCALE)]
        if not all(key in state for key in keys):
            continue  # load_state_dict tells that the weight is missing
        integers, scale = (state.pop(key) for key in keys)
        unpacked = unpack(integers, layer.weight.numel()).reshape(layer.weight.shape)
        state[f"{name}.weight"] = unpacked.float() * scale.reshape(-1, 1, 1, 1)
    model.load_state_dict(state)
    model.eval()


def notes(path: Path) -> dict[str, str]:
    """Return the notes that were written with a model."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def pack(integers: Tensor) -> Tensor:
    """Return integers of -8..7 as uint8, two in each, the first in the low half."""
    flat = integers.reshape(-1) + OFFSET
    padded = torch.nn.functional.pad(flat, (0, flat.numel() % 2))
    return (padded[0::2] | padded[1::2] << HIGH).to(torch.uint8)


def unpack(packed: Tensor, count: int) -> Tensor:
    """Return the first `count` integers that :func:`pack` packed, int64."""
    wide = packed.to(torch.int64)
    return torch.stack([wide & LOW, wide >> HIGH], 1).reshape(-1)[:count] - OFFSET


def _narrow(model: fx.GraphModule) -> list[tuple[str, Any]]:
    """Return the convolutions with weights of 4 bits by name."""
    return [(name, layer) for name, layer in model.named_modules()
            if isinstance(layer, QuantConv2d) and layer.weight_quant.quant_injector.bit_width == 4]
