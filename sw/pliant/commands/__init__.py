"""The functions behind the command line; each command of :mod:`pliant.cli` is a thin layer on one.

They import hardware, simulators and models when they are called, so that a program that only
disassembles needs NumPy alone.
"""
