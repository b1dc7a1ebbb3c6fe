"""Local maxima of a heat map in the integer graph, by a max pool and one addition."""

from __future__ import annotations

import dataclasses

from pliant.compiler.graph import Add, Graph, GraphError, MaxPool, Padding

WINDOW = 3

MULTIPLIERS = (-254, 255)
"""Of the maximum m and of x: ``255*x - 254*m`` is x where m = x. Where m > x it is at most
``x - 254``, and x at most 126, so that int8 bounds make it -128."""


def append_peaks(graph: Graph, heatmap: str) -> Graph:
    """Return the graph with an output ``peaks`` in the place of the output `heatmap`.

    With m the maximum over 3x3 pixels, ``peaks = clip(255*x - 254*m)``: x where it is a maximum,
    -128 elsewhere (MULTIPLIERS). The nodes stand right behind the heat map, so that other heads'
    convolutions can run beside them.

    Raises
    ------
    GraphError
        `heatmap` is no output.
    """
    if heatmap not in graph.outputs:
        raise GraphError(f"graph {graph.name!r} has no output {heatmap!r}, only "
                         f"{', '.join(graph.outputs)}")
    tensor = graph.tensors()[heatmap]
    around, peaks = (dataclasses.replace(tensor, name=f"peaks{part}")
                     for part in (".maximum", ""))
    border = WINDOW // 2
    nodes = (
        MaxPool(name=around.name, inputs=(heatmap,), output=around, kernel=(WINDOW, WINDOW),
                stride=(1, 1), padding=Padding(top=border, left=border, bottom=border,
                                               right=border)),
        Add(name=peaks.name, inputs=(around.name, heatmap), output=peaks, multipliers=MULTIPLIERS,
            offset=-tensor.zero_point, shift=0),
    )
    outputs = tuple(peaks.name if name == heatmap else name for name in graph.outputs)
    behind = next((index for index, node in enumerate(graph.nodes, 1)
                   if node.output.name == heatmap), 0)  # 0: it is an input
    return graph.replace(nodes=(*graph.nodes[:behind], *nodes, *graph.nodes[behind:]),
                         outputs=outputs)
