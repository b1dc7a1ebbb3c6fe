"""A stand-in for Vivado: runs its Tcl scripts on a model of projects and block designs.

It knows the commands, options, IP and parameters that the build uses, and refuses everything else.
What it knows of Vivado's IP was typed from AMD's documents and public scripts, not read from a
Vivado: a script that runs here is free of slips, not proven on the tool.
"""
