"""From integer graph to program."""

from pliant.compiler.compile import compile_graph, optimize
from pliant.compiler.errors import CompileError
from pliant.compiler.printing import draw_graph, format_graph

__all__ = ["CompileError", "compile_graph", "draw_graph", "format_graph", "optimize"]
