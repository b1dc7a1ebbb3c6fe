"""Prints and draws graphs at any stage of the compiler."""

from __future__ import annotations

from typing import Any

from pliant.compiler.graph import Graph, Node, Tensor
from pliant.compiler.operation import Operation


def format_graph(graph: Graph) -> str:
    """Return one line per tensor and node."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input {_tensor(tensor)}" for tensor in graph.inputs]
    lines += [
        f"  {_tensor(node.output)} = {node.name}: {_kind(node)}({', '.join(node.inputs)})"
        f"{_details(node)}"
        for node in graph.nodes
    ]
    lines += [f"  output {name}" for name in graph.outputs]
    return "\n".join(lines) + "\n"


def draw_graph(graph: Graph) -> str:
    """Return the graph as Graphviz source (``dot -Tsvg``)."""
    lines = [f"digraph {_quote(graph.name)} {{", "  node [shape=box];"]
    producer = {}
    for tensor in graph.inputs:
        lines.append(f"  {_quote('in:' + tensor.name)} "
                     f"[shape=ellipse, label={_quote(_tensor(tensor))}];")
        producer[tensor.name] = "in:" + tensor.name
    for node in graph.nodes:
        label = f"{node.name}\n{_kind(node)}{_details(node)}"
        lines.append(f"  {_quote(node.name)} [label={_quote(label)}];")
        producer[node.output.name] = node.name
    tensors = graph.tensors()
    lines += [
        f"  {_quote(producer[name])} -> {_quote(node.name)} "
        f"[label={_quote(_shape(tensors[name]))}];"
        for node in graph.nodes for name in node.inputs
    ]
    for name in graph.outputs:
        lines.append(f"  {_quote('out:' + name)} [shape=ellipse, label={_quote(name)}];")
        lines.append(f"  {_quote(producer[name])} -> {_quote('out:' + name)} "
                     f"[label={_quote(_shape(tensors[name]))}];")
    return "\n".join([*lines, "}"]) + "\n"


def _kind(node: Node) -> str:
    return node.kind if isinstance(node, Operation) else type(node).__name__


def _details(node: Node) -> str:
    """Window and fused layers, where a node has them."""
    window: Any = getattr(node, "window", node)
    weight = getattr(node, "weight", None)
    kernel = getattr(window, "kernel", None if weight is None else weight.shape[-2:])
    text = ""
    if kernel is not None and (weight is not None or tuple(kernel) != (1, 1)):
        text += f" {kernel[0]}x{kernel[1]}"
        stride, dilation = window.stride, getattr(window, "dilation", (1, 1))
        text += f" stride {stride[0]}x{stride[1]}" if stride != (1, 1) else ""
        text += f" dilation {dilation[0]}x{dilation[1]}" if dilation != (1, 1) else ""
    if isinstance(node, Operation) and len(node.layers) > 1:
        text += f" of {' + '.join(node.layers)}"
    return text


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape)


def _tensor(tensor: Tensor) -> str:
    text = f"{tensor.name} {_shape(tensor)} scale {tensor.scale:g}"
    return text + (f" zero point {tensor.zero_point}" if tensor.zero_point else "")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
