"""How one invocation of ``prong`` speaks: text or JSON, results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from prong.errors import InvalidInput, ProngError

EXIT_ERROR = 1
EXIT_INVALID = 2

# C0 and C1 control characters except newline and tab: an error may quote a name that came out of a sandbox, and that
# must not move the cursor or change the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """``text`` with control characters written as ``\\x1b``, safe for a terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


@dataclass(slots=True)
class Output:
    """The state of one invocation.

    Attributes:
        json: print one JSON document instead of text; set by ``--json`` anywhere on the command line.
    """

    json: bool = False

    @property
    def console(self) -> Console:
        """Where results for a person go. Made anew, so that it writes to the present ``sys.stdout``."""
        return Console(highlight=False, soft_wrap=True)

    @property
    def progress(self) -> Console:
        """Where progress goes: standard error, and nowhere under ``--json``."""
        return Console(stderr=True, highlight=False, quiet=self.json)

    def document(self, value: Mapping[str, object] | list[object]) -> None:
        """Print one JSON document to standard output."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def error(self, error: ProngError) -> int:
        """Print ``error`` to standard error: ``{"error": {code, message, hint, data}}`` or red text.

        In text, the last words of a program that failed (``data["log"]``, ``data["stderr"]``) follow.

        Returns:
            The exit status: 2 for invalid input, else 1.
        """
        if self.json:
            sys.stderr.write(json.dumps({"error": error.as_json()}, ensure_ascii=False) + "\n")
        else:
            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print(Text(f"error [{error.code}]: {printable(error.message)}", style="bold red"))
            if error.hint:
                console.print(Text(f"  {printable(error.hint)}", style="red"))
            for name in ("log", "stderr"):
                if isinstance(words := error.data.get(name), str) and words.strip():
                    console.print(Text(printable(words.rstrip("\n")), style="dim"))
        return EXIT_INVALID if isinstance(error, InvalidInput) else EXIT_ERROR


def output_of(context: typer.Context) -> Output:
    """The invocation's :class:`Output`."""
    found = context.find_object(Output)
    if found is None:
        raise TypeError("the command line app was invoked without an Output; go through prong.cli.app.main")
    return found


def _json_option(context: typer.Context, given: bool) -> bool:
    """Remember ``--json`` for the error handler, and let ``prong --json X`` mean the same as ``prong X --json``."""
    output = output_of(context)
    output.json = output.json or given
    return output.json


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document, errors included.", callback=_json_option)]
"""The type of every command's ``as_json`` parameter; true if ``--json`` stands before or after the command."""
