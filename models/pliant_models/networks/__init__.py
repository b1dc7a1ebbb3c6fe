"""ImageNet networks as published, with seeded random weights, quantized on photographs."""

from pliant_models.networks.zoo import NETWORKS, build, golden, integer_graph, quantized

__all__ = ["NETWORKS", "build", "golden", "integer_graph", "quantized"]
