"""pliant: a parameterised accelerator for quantized networks, and its software."""
