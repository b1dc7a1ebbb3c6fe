"""Local maxima of a heat map in the integer graph, by a max pool and two additions."""

from __future__ import annotations

import dataclasses

from pliant.compiler.graph import Add, Graph, GraphError, MaxPool, Padding
from pliant.spec.numerics import INT8_MAX, INT8_MIN

WINDOW = 3


def append_peaks(graph: Graph, heatmap: str) -> Graph:
    """Return the graph with an output ``peaks`` in the place of the output `heatmap`.

    With m the maximum over 3x3 pixels, ``d = clip(m - x, 0, 127)`` and ``peaks = clip(x - 256*d)``:
    x where it is a maximum, -128 elsewhere, for x - 256 is at most -129. The nodes stand right
    behind the heat map, so that other heads' convolutions can run beside them.

    Raises
    ------
    GraphError
        `heatmap` is no output.
    """
    if heatmap not in graph.outputs:
        raise GraphError(f"graph {graph.name!r} has no output {heatmap!r}, only "
                         f"{', '.join(graph.outputs)}")
    tensor = graph.tensors()[heatmap]
    around, below, peaks = (dataclasses.replace(tensor, name=f"peaks{part}")
                            for part in (".maximum", ".below", ""))
    border = WINDOW // 2
    nodes = (
        MaxPool(name=around.name, inputs=(heatmap,), output=around, kernel=(WINDOW, WINDOW),
                stride=(1, 1), padding=Padding(top=border, left=border, bottom=border,
                                               right=border)),
        Add(name=below.name, inputs=(around.name, heatmap), output=below, multipliers=(1, -1),
            offset=0, shift=0, clip_min=0, clip_max=INT8_MAX),
        Add(name=peaks.name, inputs=(heatmap, below.name), output=peaks,
            multipliers=(1, INT8_MIN * 2), offset=0, shift=0),
    )
    outputs = tuple(peaks.name if name == heatmap else name for name in graph.outputs)
    behind = next((index for index, node in enumerate(graph.nodes, 1)
                   if node.output.name == heatmap), 0)  # 0: it is an input
    return graph.replace(nodes=(*graph.nodes[:behind], *nodes, *graph.nodes[behind:]),
                         outputs=outputs)
