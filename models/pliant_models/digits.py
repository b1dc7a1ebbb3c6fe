"""The demo network: scikit-learn's handwritten digits, trained with quantization.

``python -m pliant_models.digits --train`` repeats the training: half a minute on one thread. The
weights it writes are shipped with the package.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, fx, nn

from pliant.compiler.graph import Graph
from pliant_models.export import export, model_integers
from pliant_models.quantize import calibrate, quantize

WEIGHTS = Path(__file__).parent / "data" / "digits.safetensors"

HELD_OUT = 360
"""Images of the 1797 that training never sees."""

SEED = 2024

INPUT_SCALE = 2.0**-4
"""Pixels 0..16 are the int8 inputs themselves; their real value is pixel / 16."""


@dataclass(frozen=True)
class Split:
    """Images as int8 (images, 1, 8, 8) with values 0..16, and labels 0..9 as int64."""

    images: NDArray[np.int8]
    labels: NDArray[np.int64]

    def real(self) -> Tensor:
        """Return the real-valued images, float32."""
        return torch.from_numpy(self.images.astype(np.float32) * np.float32(INPUT_SCALE))


class ConvNorm(nn.Module):
    """A padded 3x3 convolution with batch norm."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, value: Tensor) -> Tensor:
        """Return the normalised convolution."""
        result: Tensor = self.norm(self.conv(value))
        return result


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)

    def forward(self, value: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return functional.relu(self.second(functional.relu(self.first(value))) + value)


class DigitsNetwork(nn.Module):
    """A small residual network: (images, 1, 8, 8) to (images, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16)
        self.residual = ResidualBlock(16)
        self.pool = nn.MaxPool2d(2)
        self.widen = ConvNorm(16, 32, stride=2)
        self.deepen = ConvNorm(32, 64)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of 10 classes."""
        value = self.pool(self.residual(functional.relu(self.stem(images))))
        value = functional.relu(self.deepen(functional.relu(self.widen(value))))
        logits: Tensor = self.classify(torch.flatten(self.mean(value), 1))
        return logits


def dataset() -> tuple[Split, Split]:
    """Return the training images and the held-out ones; stratified, always the same."""
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images.astype(np.int8)[:, None], digits.target.astype(np.int64),
        test_size=HELD_OUT, stratify=digits.target, random_state=SEED)
    return Split(train_images, train_labels), Split(test_images, test_labels)


def load(path: Path = WEIGHTS) -> fx.GraphModule:
    """Return the trained quantized model, in evaluation mode."""
    model = quantize(DigitsNetwork(), torch.zeros(1, 1, 8, 8), input_scale=INPUT_SCALE)
    model.load_state_dict(load_file(path))
    model.eval()
    return model


def graph(path: Path = WEIGHTS) -> Graph:
    """Return the integer graph of the trained model."""
    return export(load(path), name="digits")


@dataclass(frozen=True)
class Golden:
    """What every level below the model must reproduce for the held-out images.

    Attributes
    ----------
    graph : Graph
        The integer graph; its one input takes `images`.
    images : int8 (images, 1, 8, 8)
    labels : int64 (images,)
    integers : dict of int8 (images, channels, height, width)
        Every tensor of the graph by name, from the Brevitas model evaluated in float64.
    """

    graph: Graph
    images: NDArray[np.int8]
    labels: NDArray[np.int64]
    integers: dict[str, NDArray[np.int8]]


def golden(path: Path = WEIGHTS) -> Golden:
    """Return the trained network's graph and the model's integers for the held-out images."""
    model, (_, split) = load(path), dataset()
    return Golden(graph=export(model, name="digits"), images=split.images, labels=split.labels,
                  integers=model_integers(model, split.real()))


def accuracy(logits: NDArray[np.int8], labels: NDArray[np.int64]) -> float:
    """Return the share of images whose largest logit, the first of equals, is at the label.

    `logits` has the images first and 10 values each.
    """
    return float((logits.reshape(len(labels), -1).argmax(axis=1) == labels).mean())


def train(*, epochs: int = 40, tuning_epochs: int = 30) -> fx.GraphModule:
    """Train the float network, quantize it, fine-tune with quantizers; return it for evaluation.

    Seeded; the result depends on torch's version and the machine's float32 arithmetic, too.
    """
    torch.manual_seed(SEED)
    split, _ = dataset()
    network = DigitsNetwork()
    _fit(network, split, epochs, rate=3e-3)
    model = quantize(network, torch.zeros(1, 1, 8, 8), input_scale=INPUT_SCALE)
    calibrate(model, [split.real()])
    _fit(model, split, tuning_epochs, rate=3e-4)
    return model


def _fit(model: nn.Module, split: Split, epochs: int, *, rate: float, batch: int = 64) -> None:
    """Train with AdamW, a one-cycle rate, and images shifted by up to one pixel."""
    images, labels = split.real(), torch.from_numpy(split.labels)
    steps = len(images) // batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images))[:steps * batch].reshape(steps, batch):
            loss = functional.cross_entropy(
                model(_shifted(images[chosen])), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    model.eval()


def _shifted(images: Tensor) -> Tensor:
    """Return the batch moved by -1, 0 or 1 pixels down and right, background moving in."""
    padded = functional.pad(images, (1, 1, 1, 1))
    top, left = (int(offset) for offset in torch.randint(3, (2,)))
    return padded[:, :, top:top + 8, left:left + 8]


def main() -> None:
    """Train and write the weights, or report the accuracy of those at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true", help="train and write the weights")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="file written or read")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    if options.train:
        options.weights.parent.mkdir(parents=True, exist_ok=True)
        save_file(train().state_dict(), options.weights)
        print(f"trained in {time.perf_counter() - start:.0f} s, "
              f"{options.weights.stat().st_size / 1024:.0f} KiB in {options.weights}")
    model = load(options.weights)
    output = export(model, name="digits").outputs[0]
    for name, split in zip(("training", "held-out"), dataset(), strict=True):
        logits = model_integers(model, split.real())[output]
        print(f"{name} accuracy {accuracy(logits, split.labels):.2%} "
              f"of {len(split.labels)} images, from integers")


if __name__ == "__main__":
    main()
