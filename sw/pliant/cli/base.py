"""What all commands share: options, how results are printed, how errors end a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from pliant.commands.errors import explain
from pliant.commands.values import plain
from pliant.spec.config import PRESETS

FAILURE = 2
"""Exit code for errors of input, configuration, program or hardware; click's for wrong usage."""

DIFFERENCE = 1
"""Exit code of a demo that found levels to differ."""


class Failure(click.ClickException):
    """An error that the user can act on: one line on stderr, no traceback."""

    exit_code = FAILURE

    def show(self, file: Any = None) -> None:
        """Print the message."""
        click.echo(f"pliant: error: {' '.join(self.format_message().split())}", err=True)


class PliantGroup(click.Group):
    """Turns expected errors into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            raise Failure(message) from error


def report(result: object, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result to stdout, as JSON or as text."""
    click.echo(json.dumps(plain(result), indent=2) if as_json else text())


def config_option(help_text: str, default: str | None = None) -> Callable[..., Any]:
    """Return the option --config."""
    names = ", ".join(PRESETS)
    return click.option("--config", "config_name", metavar="NAME", default=default,
                        show_default=default is not None, help=f"{help_text}: {names}.")


json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print the result as JSON, and nothing else, to stdout.")


def conclude(result: Any, as_json: bool, tables: Callable[[], Any]) -> None:
    """Print what a demo found; exit with DIFFERENCE unless all integers are equal."""
    from rich.console import Console

    if as_json:
        click.echo(json.dumps(plain(result), indent=2))
    else:
        Console().print(tables())
    if not result.equal:
        raise click.exceptions.Exit(DIFFERENCE)
