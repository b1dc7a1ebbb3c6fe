"""The driver: what runs a program on a core. NumPy only, and PYNQ where there is a board."""
