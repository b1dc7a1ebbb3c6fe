"""Commands about virtual boards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pliant.cli.base import config_option, json_option, report
from pliant.spec.config import preset


@click.group()
def board() -> None:
    """Work with virtual boards: the simulated RTL in place of a board with PYNQ."""


def platform_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --platform."""
    return click.option(
        "--platform", "platform_name", metavar="NAME",
        help="Board that the configuration is on; the first that is built with it if not given.",
    )(function)


@board.command()
@config_option("Configuration", "ultra96")
@platform_option
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("build/board"), show_default=True, help="Directory for the files.")
@json_option
def overlay(
    config_name: str, platform_name: str | None, output: Path, as_json: bool
) -> None:
    """Write pliant.bit, a stand-in that virtual boards load, and pliant.hwh for PYNQ."""
    from pliant.commands.board import overlay as function
    from pliant.commands.board import platform_for

    config = preset(config_name)
    where = platform_for(config, platform_name)
    result = function(config, where, output)
    report(result, as_json, lambda: (
        f"{result.bitstream}, {result.handoff}: virtual board {result.platform} with "
        f"configuration {result.config} ({result.fingerprint})"))


@board.command()
@config_option("Configuration", "ultra96")
@platform_option
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen at. Anyone who reaches it may use the board.")
@click.option("--port", type=click.IntRange(0, 65535), default=7967, show_default=True,
              help="Port to listen at; 0 for any. PYNQ's client knows the default alone.")
@click.option("--web", is_flag=True,
              help="Serve a page, too, on which digits are drawn that the core classifies.")
@click.option("--web-port", type=click.IntRange(0, 65535),
              help="Port of that page; 0 for any, 8080 if not given.")
@json_option
def serve(
    config_name: str, platform_name: str | None, host: str, port: int, web: bool,
    web_port: int | None, as_json: bool,
) -> None:
    """Serve a virtual board to PYNQ.remote until interrupted (Ctrl-C or SIGTERM)."""
    if web_port is not None and not web:
        raise click.UsageError("--web-port needs --web")
    if web and web_port is None:
        web_port = 8080
    from pliant.commands.board import Left, Served, platform_for
    from pliant.commands.board import serve as function

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr beside exceptions
    from pliant_sim.board.server import PORT

    config = preset(config_name)
    where = platform_for(config, platform_name)

    def announce(served: Served) -> None:
        report(served, as_json, lambda: (
            f"virtual board {served.platform} ({served.family}) with configuration "
            f"{served.config} ({served.fingerprint}) at {served.host}:{served.port}; for its "
            "clients: " + (f"PYNQ_REMOTE_DEVICES={served.host}" if served.port == PORT else
                           f"RemoteDevice(0, {served.host!r}, {served.port})")
            + (f"\ndraw digits at {served.page}" if served.page else "")))

    def text(left: Left) -> str:
        return f"ended; clients left {left.buffers} buffers of {left.buffer_bytes} bytes"

    left = function(config, where, host=host, port=port,
                    web_port=web_port, announce=announce)
    report(left, as_json, lambda: text(left))
