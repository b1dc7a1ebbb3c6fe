"""Quantized networks: Brevitas layers, rewriting of float models, recipes, export to integers."""
