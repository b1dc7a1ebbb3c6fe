"""Random PyTorch networks of what the front end takes, strung together from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pliant.spec.sampling import Offsets, Sampling
from pliant_models.deformable import DeformableConv2d

LAYERS = ("convolution", "convolution", "convolution", "depthwise", "pool", "add", "concat",
          "split", "shuffle", "upsample", "activation", "again", "deformable")
"""Drawn one after the other; each reads one of the values so far, the latest most often."""


class RandomModule(nn.Module):
    """A network drawn from a seed; equal seeds give equal networks.

    Parameters
    ----------
    seed : int
    layers : int
        How many are drawn.

    Attributes
    ----------
    shape : (channels, height, width)
        Of the input.
    """

    def __init__(self, seed: int, layers: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        torch.manual_seed(seed)
        self.shape = (self._random.choice([1, 2, 3, 5]), self._random.randint(1, 9),
                      self._random.randint(1, 9))
        self._steps: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = []
        self._shapes: list[tuple[int, int, int]] = [self.shape]
        while len(self._steps) < layers:
            getattr(self, f"_{self._random.choice(LAYERS)}")(self._source())
        computed = [index + 1 for index, (function, _) in enumerate(self._steps)
                    if isinstance(function, nn.Module)]
        self._outputs = sorted(self._random.sample(computed, min(2, len(computed))))
        self._flat = nn.Linear(int(torch.Size(self._shapes[-1]).numel()), 4)

    def forward(self, x: Tensor) -> Any:
        """Return several results."""
        values = [x]
        for function, sources in self._steps:
            values.append(function(*(values[source] for source in sources)))
        return *(values[index] for index in self._outputs), self._flat(values[-1].flatten(1))

    def _source(self) -> int:
        count = len(self._shapes)
        return count - 1 if self._random.random() < 0.7 else self._random.randrange(count)

    def _append(self, function: Callable[..., Tensor], *sources: int) -> None:
        with torch.no_grad():
            result = function(*(torch.zeros(2, *self._shapes[index]) for index in sources))
        if max(result.shape[2:]) > 20 or result.shape[1] > 40:
            return
        if isinstance(function, nn.Module):
            self.add_module(f"layer{len(self._steps)}", function)
        self._steps.append((function, sources))
        _, channels, height, width = result.shape
        self._shapes.append((channels, height, width))

    def _window(self, source: int) -> dict[str, Any]:
        rng, (_, *sizes) = self._random, self._shapes[source]
        while True:
            kernel = tuple(rng.choice([1, 1, 2, 3, 3, 5, 7]) for _ in sizes)
            padding = tuple(rng.randint(0, 3) for _ in sizes)
            dilation = tuple(rng.choice([1, 1, 1, 2]) for _ in sizes)
            stride = tuple(rng.choice([1, 1, 2, 3]) for _ in sizes)
            if all(size + 2 * pad > space * (side - 1) for size, pad, space, side in
                   zip(sizes, padding, dilation, kernel, strict=True)):
                return {"kernel_size": kernel, "padding": padding, "dilation": dilation,
                        "stride": stride}

    def _behind(self, layer: nn.Module, channels: int) -> nn.Module:
        norm = [nn.BatchNorm2d(channels)] if self._random.random() < 0.3 else []
        act = self._random.choice([nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.4, 0.7), None])
        return nn.Sequential(layer, *norm, *([act] if act else []))

    def _convolution(self, source: int) -> None:
        channels, out = self._shapes[source][0], self._random.choice([1, 3, 4, 8, 9, 17])
        layer = nn.Conv2d(channels, out, bias=self._random.random() < 0.7, **self._window(source))
        with torch.no_grad():
            layer.weight *= torch.logspace(-2, 1, out).reshape(-1, 1, 1, 1)
        self._append(self._behind(layer, out), source)

    def _depthwise(self, source: int) -> None:
        channels = self._shapes[source][0]
        layer = nn.Conv2d(channels, channels, groups=channels, **self._window(source))
        self._append(self._behind(layer, channels), source)

    def _pool(self, source: int) -> None:
        window = self._window(source)
        window["padding"] = tuple(min(pad, side // 2) for pad, side in zip(
            window["padding"], window["kernel_size"], strict=True))
        _, *sizes = self._shapes[source]
        if any(size + 2 * pad <= space * (side - 1) for size, pad, space, side in zip(
                sizes, window["padding"], window["dilation"], window["kernel_size"], strict=True)):
            return
        if self._random.random() < 0.5:
            self._append(nn.MaxPool2d(**window), source)
        elif self._random.random() < 0.7:
            del window["dilation"]
            self._append(nn.AvgPool2d(**window), source)
        else:
            self._append(nn.AdaptiveAvgPool2d(1), source)

    def _add(self, source: int) -> None:
        others = [i for i, shape in enumerate(self._shapes) if shape == self._shapes[source]]
        self._append(torch.add, source, self._random.choice(others))

    def _concat(self, source: int) -> None:
        others = [i for i, shape in enumerate(self._shapes)
                  if shape[1:] == self._shapes[source][1:]]
        picked = self._random.choices(others, k=self._random.randint(1, 2))
        self._append(lambda *values: torch.cat(values, 1), source, *picked)

    def _split(self, source: int) -> None:
        channels = self._shapes[source][0]
        first = self._random.randrange(channels)
        last = self._random.randint(first + 1, channels)
        step = self._random.choice([1, 1, 2])
        self._append(lambda value: value[:, first:last:step], source)

    def _shuffle(self, source: int) -> None:
        channels, *sizes = self._shapes[source]
        groups = self._random.choice([n for n in range(1, channels + 1) if channels % n == 0])
        self._append(lambda value: value.reshape(-1, groups, channels // groups, *sizes).transpose(
            1, 2).reshape(-1, channels, *sizes), source)

    def _upsample(self, source: int) -> None:
        self._append(nn.Upsample(scale_factor=2), source)

    def _activation(self, source: int) -> None:
        self._append(self._random.choice([nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.25)]), source)

    def _again(self, source: int) -> None:
        """Use a layer a second time."""
        fitting = [function for function, sources in self._steps if isinstance(function, nn.Module)
                   and len(sources) == 1 and self._shapes[sources[0]][0] == self._shapes[source][0]
                   and not isinstance(function, _Deformable)]
        if fitting and min(self._shapes[source][1:]) >= 7:
            function = self._random.choice(fitting)
            self._append(lambda value: function(value), source)

    def _deformable(self, source: int) -> None:
        offsets = self._random.choice([Offsets.SCALED, Offsets.PER_TAP, Offsets.MODULATED])
        self._append(_Deformable(self._shapes[source][0], self._random.choice([1, 3, 6]), Sampling(
            offsets=offsets, fraction_bits=self._random.randint(1, 4),
            minimum=-self._random.randint(0, 20), maximum=self._random.randint(0, 20),
            interpolate=self._random.random() < 0.7)), source)


class _Deformable(nn.Module):
    def __init__(self, channels: int, out: int, sampling: Sampling) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(channels, sampling.offset_channels((3, 3)), 3, padding=1)
        masks = sampling.mask_channels((3, 3))
        self.mask = nn.Conv2d(channels, masks, 3, padding=1) if masks else None
        self.layer = DeformableConv2d(channels, out, 3, sampling=sampling, padding=1)
        with torch.no_grad():
            self.offsets.weight *= 2

    def forward(self, x: Tensor) -> Tensor:
        mask = None if self.mask is None else torch.sigmoid(self.mask(x))
        return functional.relu(self.layer(x, self.offsets(x), mask))
