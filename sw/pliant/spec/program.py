"""The program file: instructions, constants, inputs and outputs, and the map from layers.

A ZIP archive (CRC-32 on every member) with ``manifest.json``, ``instructions.bin`` and
``constants.bin``; the manifest holds the SHA-256 of both, so a truncated, corrupted or mixed-up
file is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import ISA_VERSION, AcceleratorConfig
from pliant.spec.decoding import decode_program
from pliant.spec.document import DocumentError, Item
from pliant.spec.isa import INSTRUCTION_BYTES, Instruction
from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant.spec.unfolding import Unfolding

FORMAT = "pliant-program-2"

MAX_BYTES = 1 << 32
"""Of a segment: what the offsets of Load and Store reach."""

MAX_UNFOLDED = 1 << 16
"""Of kernel, stride and size of a window that is unfolded."""


class Segment:
    """Base registers by use; offsets in instructions are relative to one of them."""

    CONSTANTS = 0
    SCRATCH = 1
    INPUT = 2
    OUTPUT = 3


class ProgramError(ValueError):
    """A program file that cannot be read, or that is made for another configuration."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A feature tensor in DDR, laid out as :mod:`pliant.spec.memory` says.

    `shape` is (channels, height, width); the real value of integer q is
    ``(q - zero_point) * scale``. With `unfolding`, the tensor is made from an image of another
    shape by whoever writes it. With `channels`, the network's channels stand there, in this order,
    among others without meaning.
    """

    name: str
    shape: tuple[int, int, int]
    segment: int
    offset: int
    scale: float
    zero_point: int
    unfolding: Unfolding | None = None
    channels: tuple[int, ...] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of the network's tensor that this one holds or is made from."""
        if self.unfolding is not None:
            return self.unfolding.shape
        if self.channels is not None:
            return (len(self.channels), *self.shape[1:])
        return self.shape

    def arrange(self, image: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the tensor for an int8 image of `image_shape`."""
        return image if self.unfolding is None else self.unfolding.apply(image)

    def restore(self, tensor: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the network's channels of a tensor of `shape`."""
        return tensor if self.channels is None else tensor[list(self.channels)]


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """Which instructions and which DDR tensor belong to a layer.

    `instructions` are half-open index ranges (first, last), in program order: several where the
    instructions of other layers stand between its own. Those of all layers are disjoint and hold
    every instruction but End. `macs` are the useful multiply-accumulates (no padding, no
    strided-away work); `estimated_cycles` what the compiler's cycle model, by which it chose the
    tiling, expects; `output` is where the result can be read after a run if the program was
    compiled with `keep_tensors`, else None.
    """

    name: str
    kind: str
    macs: int
    estimated_cycles: int
    instructions: tuple[tuple[int, int], ...]
    output: TensorInfo | None

    def indices(self) -> Iterator[int]:
        """Yield the indices of its instructions in program order."""
        for first, last in self.instructions:
            yield from range(first, last)


@dataclass(frozen=True, kw_only=True, repr=False)
class Program:
    """A compiled network."""

    network: str
    config_name: str
    fingerprint: int
    instructions: bytes
    constants: bytes
    scratch_bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[LayerInfo, ...]

    def __repr__(self) -> str:
        """Return a line: a notebook that shows a program must not show megabytes."""
        return (f"<Program {self.network!r} for {self.config_name!r}: {len(self.layers)} layers, "
                f"{len(self.instructions) // INSTRUCTION_BYTES} instructions, "
                f"{len(self.constants)} bytes of constants>")

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def kept(self) -> tuple[TensorInfo, ...]:
        """Layers' results that a run leaves in memory, in the order of the layers."""
        return tuple(layer.output for layer in self.layers if layer.output is not None)

    def decoded(self) -> list[Instruction]:
        """Return the instructions as objects; decoded once for runs on many images."""
        return list(self._decoded)

    @functools.cached_property
    def _decoded(self) -> tuple[Instruction, ...]:
        return tuple(decode_program(self.instructions))

    @functools.cached_property
    def owners(self) -> dict[int, LayerInfo]:
        """Layer of each instruction, by index; those without one, such as End, are missing."""
        return {index: layer for layer in self.layers for index in layer.indices()}

    def require(self, config: AcceleratorConfig) -> None:
        """Raise ProgramError unless the program is made for `config`."""
        if self.fingerprint != config.fingerprint:
            raise ProgramError(
                f"program {self.network!r} is compiled for configuration {self.config_name!r} "
                f"(fingerprint {self.fingerprint:016x}), not for {config.name!r} "
                f"({config.fingerprint:016x}); compile it again with --config {config.name}"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program file."""
        write_file(path, self.contents())

    def contents(self) -> bytes:
        """Return the contents of the program file, which :func:`parse_program` reads."""
        manifest = {
            "format": FORMAT,
            "isa_version": ISA_VERSION,
            "network": self.network,
            "config": self.config_name,
            "fingerprint": f"{self.fingerprint:016x}",
            "scratch_bytes": self.scratch_bytes,
            "inputs": [dataclasses.asdict(tensor) for tensor in self.inputs],
            "outputs": [dataclasses.asdict(tensor) for tensor in self.outputs],
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "sha256": {
                "instructions.bin": hashlib.sha256(self.instructions).hexdigest(),
                "constants.bin": hashlib.sha256(self.constants).hexdigest(),
            },
        }
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", json.dumps(manifest, indent=1))
            archive.writestr("instructions.bin", self.instructions)
            archive.writestr("constants.bin", self.constants)
        return data.getvalue()


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file; OSError names it also where writing fails, on a full disk for example."""
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def load_program(path: str | os.PathLike[str], config: AcceleratorConfig | None = None) -> Program:
    """Read a program file; refuse it when it is damaged or, given `config`, made for another.

    Raises
    ------
    ProgramError
        Names the file and what is wrong with it.
    FileNotFoundError
        There is no such file.
    """
    if Path(path).is_char_device():  # it may never end
        raise ProgramError(f"{path}: a device, no file")
    data = Path(path).read_bytes()
    try:
        program = parse_program(data)
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from None
    if config is not None:
        program.require(config)
    return program


def parse_program(data: bytes) -> Program:
    """Return the program in the contents of a program file; ProgramError when it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            blobs = {name: archive.read(name) for name in ("instructions.bin", "constants.bin")}
    except Exception as error:  # zipfile and zlib raise many kinds on damaged input
        raise ProgramError(f"not a program file, truncated or corrupted ({error})") from None
    try:
        return _program(Item(manifest), blobs)
    except ProgramError:
        raise
    except DocumentError as error:
        raise ProgramError(f"manifest.json is damaged ({error})") from None


def _program(manifest: Item, blobs: dict[str, bytes]) -> Program:
    if manifest["format"].value != FORMAT:
        raise ProgramError(f"format is {manifest['format'].value!r}, not {FORMAT!r}; "
                           "compile it again")
    if manifest["isa_version"].value != ISA_VERSION:
        raise ProgramError(f"made for instruction set version {manifest['isa_version'].value}, "
                           f"this is version {ISA_VERSION}; compile it again")
    for name, blob in blobs.items():
        if hashlib.sha256(blob).hexdigest() != manifest["sha256"][name].value:
            raise ProgramError(f"{name} does not match its SHA-256: corrupted")
    count, rest = divmod(len(blobs["instructions.bin"]), INSTRUCTION_BYTES)
    if rest:
        raise ProgramError("instructions.bin holds no whole number of instructions")
    return Program(
        network=manifest["network"].text(),
        config_name=manifest["config"].text(),
        fingerprint=_fingerprint(manifest["fingerprint"]),
        instructions=blobs["instructions.bin"],
        constants=blobs["constants.bin"],
        scratch_bytes=manifest["scratch_bytes"].integer(high=MAX_BYTES),
        inputs=_tensors(manifest["inputs"]),
        outputs=_tensors(manifest["outputs"]),
        layers=_layers(manifest["layers"], count),
    )


def _fingerprint(item: Item) -> int:
    if not re.fullmatch("[0-9a-f]{16}", item.text()):
        raise item.error("be 16 hexadecimal digits")
    return int(item.text(), 16)


def _layers(items: Item, instructions: int) -> tuple[LayerInfo, ...]:
    """Return the layers of a program of so many instructions; none belongs to two of them."""
    owned = np.zeros(instructions, bool)
    layers = []
    for item in items.items():
        ranges = []
        for pair in item["instructions"].items():
            low, high = pair.items(2)
            first = low.integer(high=instructions)
            last = high.integer(first, instructions)
            if owned[first:last].any():
                raise pair.error("be instructions of this layer alone")
            owned[first:last] = True
            ranges.append((first, last))
        layers.append(LayerInfo(
            name=item["name"].text(), kind=item["kind"].text(), macs=item["macs"].integer(),
            estimated_cycles=item["estimated_cycles"].integer(), instructions=tuple(ranges),
            output=None if item["output"].absent else _tensor(item["output"])))
    return tuple(layers)


def _tensors(items: Item) -> tuple[TensorInfo, ...]:
    tensors = tuple(map(_tensor, items.items()))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise DocumentError(f"{items.place} have the same name")
    return tensors


def _tensor(item: Item) -> TensorInfo:
    shape = _shape(item["shape"])
    unfolding = None if item["unfolding"].absent else _unfolding(item["unfolding"])
    if unfolding is not None and unfolding.unfolded_shape != shape:
        raise item["unfolding"].error(f"make a tensor of the shape {shape}")
    channels = None
    if not item["channels"].absent:
        channels = tuple(each.integer(high=shape[0] - 1) for each in item["channels"].items())
        if not channels or len(set(channels)) != len(channels):
            raise item["channels"].error("be different channels, one or more")
    return TensorInfo(
        name=item["name"].text(), shape=shape,
        segment=item["segment"].integer(Segment.CONSTANTS, Segment.OUTPUT),
        offset=item["offset"].integer(high=MAX_BYTES), scale=item["scale"].positive(),
        zero_point=item["zero_point"].integer(INT8_MIN, INT8_MAX), unfolding=unfolding,
        channels=channels)


def _shape(item: Item) -> tuple[int, int, int]:
    channels, height, width = (size.integer(1, MAX_BYTES) for size in item.items(3))
    if channels * height * width > MAX_BYTES:
        raise item.error(f"have at most {MAX_BYTES} elements")
    return channels, height, width


def _unfolding(item: Item) -> Unfolding:
    pairs = {}
    for name, least in (("kernel", 1), ("stride", 1), ("dilation", 1), ("before", 0), ("size", 1)):
        y, x = (number.integer(least, MAX_UNFOLDED) for number in item[name].items(2))
        pairs[name] = y, x
    return Unfolding(shape=_shape(item["shape"]), fill=item["fill"].integer(INT8_MIN, INT8_MAX),
                     **pairs)
