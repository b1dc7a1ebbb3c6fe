"""The contract between compiler, simulators, hardware and driver (standard library and NumPy)."""
