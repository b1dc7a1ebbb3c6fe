"""Simulators of the accelerator: instruction level and RTL, and the benches of its blocks."""
