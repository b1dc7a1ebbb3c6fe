"""The hardware, in Amaranth: one unit a file, joined in :mod:`pliant_hw.top`."""
