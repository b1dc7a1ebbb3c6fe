"""The command line `pliant`: each command is a thin layer over a function of its name."""

from __future__ import annotations

import logging

import click

from pliant.cli.base import PliantGroup
from pliant.cli.board import board
from pliant.cli.demos import bench, demo
from pliant.cli.hardware import build, synth
from pliant.cli.programs import compile, disasm, run, simulate


class Progress(logging.Handler):
    """Shows what takes long on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        click.echo(f"pliant: {record.getMessage()}", err=True)


@click.group(cls=PliantGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pliant")
def main() -> None:
    """Build, program and simulate the pliant accelerator for quantized networks."""
    log = logging.getLogger("pliant_sim")
    log.setLevel(logging.INFO)
    log.handlers = [Progress()]


for command in (build, compile, disasm, simulate, run, demo, bench, synth, board):
    main.add_command(command)
