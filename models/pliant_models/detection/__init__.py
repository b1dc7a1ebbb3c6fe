"""Object detection: synthetic scenes, CoDeNet trained on them with quantization, and its score."""
