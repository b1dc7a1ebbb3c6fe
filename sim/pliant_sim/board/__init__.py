"""The virtual board: PYNQ, unmodified, on the simulated RTL.

The only part of the simulators that imports PYNQ, and only :mod:`~pliant_sim.board.device` and
:mod:`~pliant_sim.board.server` do.
"""
