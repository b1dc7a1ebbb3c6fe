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
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import ISA_VERSION, AcceleratorConfig
from pliant.spec.decoding import decode_program
from pliant.spec.isa import INSTRUCTION_BYTES, Instruction
from pliant.spec.unfolding import Unfolding

FORMAT = "pliant-program-2"


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
        write_file(path, data.getvalue())


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
        if manifest["format"] != FORMAT:
            raise ProgramError(f"format is {manifest['format']!r}, not {FORMAT!r}; "
                               "compile it again")
        if manifest["isa_version"] != ISA_VERSION:
            raise ProgramError(f"made for instruction set version {manifest['isa_version']}, "
                               f"this is version {ISA_VERSION}; compile it again")
        for name, blob in blobs.items():
            if hashlib.sha256(blob).hexdigest() != manifest["sha256"][name]:
                raise ProgramError(f"{name} does not match its SHA-256: corrupted")
        if len(blobs["instructions.bin"]) % INSTRUCTION_BYTES:
            raise ProgramError("instructions.bin holds no whole number of instructions")
        return Program(
            network=manifest["network"],
            config_name=manifest["config"],
            fingerprint=int(manifest["fingerprint"], 16),
            instructions=blobs["instructions.bin"],
            constants=blobs["constants.bin"],
            scratch_bytes=int(manifest["scratch_bytes"]),
            inputs=tuple(_tensor(item) for item in manifest["inputs"]),
            outputs=tuple(_tensor(item) for item in manifest["outputs"]),
            layers=tuple(
                LayerInfo(
                    name=item["name"], kind=item["kind"], macs=int(item["macs"]),
                    estimated_cycles=int(item["estimated_cycles"]),
                    instructions=tuple(
                        (int(first), int(last)) for first, last in item["instructions"]),
                    output=None if item["output"] is None else _tensor(item["output"]),
                )
                for item in manifest["layers"]
            ),
        )
    except ProgramError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProgramError(f"manifest.json is damaged ({error!r})") from None


def _tensor(item: dict[str, Any]) -> TensorInfo:
    channels, height, width = (int(size) for size in item["shape"])
    return TensorInfo(
        name=item["name"], shape=(channels, height, width), segment=int(item["segment"]),
        offset=int(item["offset"]), scale=float(item["scale"]),
        zero_point=int(item["zero_point"]), unfolding=_unfolding(item["unfolding"]),
        channels=None if item["channels"] is None else tuple(
            int(channel) for channel in item["channels"]),
    )


def _unfolding(item: dict[str, Any] | None) -> Unfolding | None:
    if item is None:
        return None
    channels, height, width = (int(size) for size in item.pop("shape"))
    fill = int(item.pop("fill"))
    pairs = {name: (int(y), int(x)) for name, (y, x) in item.items()}
    return Unfolding(shape=(channels, height, width), fill=fill, **pairs)
