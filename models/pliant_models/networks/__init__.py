"""Networks as published, with seeded random weights, quantized on photographs."""

from pliant_models.networks.detectors import (
    DETECTORS,
    detector_graph,
    golden_detector,
    named_detector,
)
from pliant_models.networks.zoo import NETWORKS, build, golden, integer_graph, quantized

__all__ = ["DETECTORS", "NETWORKS", "build", "detector_graph", "golden", "golden_detector",
           "integer_graph", "named_detector", "quantized"]
