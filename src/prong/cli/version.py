"""``prong version``."""

from __future__ import annotations

import platform

import typer

from prong.cli.output import JsonFlag, output_of
from prong.version import __version__


def register(app: typer.Typer) -> None:
    """Add ``prong version``."""
    app.command("version", epilog="Example: prong version --json")(version)


def version(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Print prong's version, with --json also that of Python and the kernel."""
    if as_json:
        output_of(context).document(
            {"prong": __version__, "python": platform.python_version(), "kernel": platform.release()}
        )
    else:
        output_of(context).console.print(f"prong {__version__}")
