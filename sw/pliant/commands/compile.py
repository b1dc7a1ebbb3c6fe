"""`compile`: a network, by name or as an integer graph, as a program file."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pliant.commands.networks import Network, network
from pliant.compiler.graph import Graph
from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.program import write_file


@dataclass(frozen=True, kw_only=True)
class CompileResult:
    """A program file that was written.

    `macs` are the useful multiply-accumulates of one image, sizes are in bytes; `examples` is how
    many images were written beside it.
    """

    path: Path
    examples: int
    network: str
    config: str
    fingerprint: str
    instructions: int
    constant_bytes: int
    scratch_bytes: int
    macs: int
    layers: int


def compile(  # the command's name; the built-in is not used here
    source: str | Graph, config: AcceleratorConfig, path: Path, *, keep_tensors: bool = False,
    stages: Path | None = None, examples: Path | None = None,
) -> CompileResult:
    """Compile a network for `config` and write the program file.

    Parameters
    ----------
    source : str or Graph
        Name of a network (:data:`pliant.commands.networks.NETWORKS`), or its integer graph.
    config : AcceleratorConfig
        What the program is made for.
    path : Path
        Program file; directories are made as needed.
    keep_tensors : bool
        Write every layer's result to memory, so that it can be read after a run.
    examples : Path, optional
        File for images to run the network on (``.npz``): `images`, int8 (images, channels, height,
        width), and `labels`, int64 (images,), where they are known. Not with a Graph.
    stages : Path, optional
        Directory for the graph after every pass, printed (``.txt``) and drawn (``.dot``, Graphviz).

    Raises
    ------
    UnknownNetworkError
        `source` is not the name of a network.
    CompileError
        A layer cannot be compiled for `config`; names layer, reason and remedy.
    """
    from pliant.compiler import compile_graph, draw_graph, format_graph

    graph = network(source).graph() if isinstance(source, str) else source
    count = itertools.count()

    def write(name: str, stage: Graph) -> None:
        assert stages is not None
        stem = stages / f"{next(count):02}_{name}"
        stem.with_suffix(".txt").write_text(format_graph(stage))
        stem.with_suffix(".dot").write_text(draw_graph(stage))

    written = 0
    if examples is not None:
        if not isinstance(source, str):
            raise TypeError("an integer graph has no examples; give a network by its name")
        written = _write_examples(network(source), examples)
    if stages is not None:
        stages.mkdir(parents=True, exist_ok=True)
    program = compile_graph(graph, config, keep_tensors=keep_tensors,
                            stages=None if stages is None else write)
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path)
    return CompileResult(
        path=path, examples=written, network=program.network, config=config.name,
        fingerprint=f"{program.fingerprint:016x}",
        instructions=len(program.instructions) // INSTRUCTION_BYTES,
        constant_bytes=len(program.constants), scratch_bytes=program.scratch_bytes,
        macs=program.macs, layers=len(program.layers),
    )


def _write_examples(source: Network, path: Path) -> int:
    images, labels = source.images()
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": images} if labels is None else {"images": images, "labels": labels}
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_file(path, data.getvalue())
    return len(images)
