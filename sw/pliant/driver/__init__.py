"""The driver: runs programs on a board, or on the simulated RTL. It needs NumPy alone.

:class:`pliant.driver.accelerator.Accelerator` on a :class:`pliant.driver.device.Device`;
:mod:`pliant.driver.pynq` has the device of PYNQ.
"""
