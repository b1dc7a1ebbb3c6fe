"""What the compiler says when it cannot compile something."""

from __future__ import annotations


class CompileError(ValueError):
    """A network that cannot be compiled.

    Attributes
    ----------
    layer : str
        Name of the node, or of the graph.
    reason : str
        What was found and what is allowed.
    remedy : str
        What to change in the network or in the configuration.
    """

    def __init__(self, layer: str, reason: str, remedy: str) -> None:
        super().__init__(f"layer {layer!r}: {reason}; {remedy}")
        self.layer = layer
        self.reason = reason
        self.remedy = remedy
