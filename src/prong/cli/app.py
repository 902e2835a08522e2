"""The ``prong`` command: the app, its commands, and the one place where errors become text and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer
from typer.main import get_command

from prong.cli import bench, cell, demo, doctor, image, repl, run, snapshot, template, version
from prong.cli.output import JsonFlag, Output
from prong.errors import InvalidInput, ProngError

COMMANDS: tuple[Callable[[typer.Typer], None], ...] = (
    run.register,
    repl.register,
    cell.register,
    template.register,
    snapshot.register,
    image.register,
    demo.register,
    bench.register,
    doctor.register,
    version.register,
)
"""What adds each command to the app, in the order of the help."""


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="prong",
        help="Fork virtual machines like processes, and run code in them.",
        epilog="Example: prong doctor",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    for register in COMMANDS:
        register(app)
    return app


def _global_options(as_json: JsonFlag = False) -> None:
    """Options that hold for every command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit status: 0 done, 1 an error, 2 invalid input, 130 interrupted, or what the command itself says.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    output = Output()
    try:
        status = get_command(build_app()).main(args=words, prog_name="prong", standalone_mode=False, obj=output)
    except ProngError as error:
        return output.error(error)
    except typer.TyperException as error:
        # Wrong usage is found while options are read, maybe before --json was; then the words themselves tell.
        output.json = output.json or "--json" in words
        return output.error(InvalidInput(error.format_message(), hint="see: prong --help", code="usage"))
    except typer.Abort:
        return output.error(ProngError("aborted", code="aborted"))
    return status if isinstance(status, int) else 0
