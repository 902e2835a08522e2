"""Reading what a person types: line editing, history and tab completion on a terminal, plain lines from a pipe."""

from __future__ import annotations

import ast
import codeop
import contextlib
import readline
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prong.cli.replcommands import COMMANDS
from prong.errors import ProngError

if TYPE_CHECKING:
    from prong.cell.engine import Cell

HISTORY_LENGTH = 10_000
INDENT = "    "
# Everything that can stand before a name, but not the dot: names are completed with what leads to them.
_DELIMITERS = " \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?"


class Completeness:
    """Tells whether typed Python is complete, as the interactive interpreter does (codeop)."""

    def __init__(self) -> None:
        self._compile = codeop.CommandCompiler()
        self._compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def is_complete(self, code: str) -> bool:
        """Whether to run it now. Code with a syntax error is complete: the cell's own Python says what is wrong."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the cell's Python warns, once
            try:
                return self._compile(code, "<typed>", "single") is not None
            except (SyntaxError, ValueError, OverflowError):
                return True


def read_code(prompt: str, *, interactive: bool) -> str:
    """The next complete input: one ``:command`` line, or Python of one or more lines.

    Raises:
        EOFError: there is no more. KeyboardInterrupt: what was typed is to be forgotten.
    """
    check = Completeness()
    code = _line(prompt, interactive)
    if code.lstrip().startswith(":"):
        return code.strip()
    while not check.is_complete(code):
        try:
            code += "\n" + _line("." * (len(prompt) - 1) + " ", interactive)
        except EOFError:
            return code + "\n"  # run what there is; Python says what is missing
    return code


def _line(prompt: str, interactive: bool) -> str:
    return input(prompt if interactive else "")


@contextlib.contextmanager
def editing(history: Path, current: Callable[[], Cell]) -> Iterator[None]:
    """Line editing while the block lasts, with a history file and completion from the cell that ``current`` gives."""
    completer = Completer(current)
    readline.set_completer(completer)
    readline.set_completer_delims(_DELIMITERS)
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(HISTORY_LENGTH)
    with contextlib.suppress(FileNotFoundError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        history.touch(mode=0o600)
        readline.write_history_file(history)
        readline.set_completer(None)


class Completer:
    """What readline calls on Tab: ``completer(text, state)`` gives the state-th candidate for ``text``, or None."""

    def __init__(self, current: Callable[[], Cell]) -> None:
        self._current = current
        self._found: list[str] = []

    def __call__(self, text: str, state: int) -> str | None:
        """Ask the cell at state 0, then hand out its answers one by one."""
        if state == 0:
            self._found = self.candidates(readline.get_line_buffer()[: readline.get_endidx()], text)
        return self._found[state] if state < len(self._found) else None

    def candidates(self, line: str, text: str) -> list[str]:
        """Everything ``text``, the last word of ``line``, may become."""
        if not line.strip():
            return [text + INDENT]
        if line.startswith(":"):
            return [name for name in COMMANDS if name.startswith(text)] if line == f":{text}" else []
        try:
            completed = self._current().complete(line, len(line))
        except ProngError:
            return []  # nothing to offer; what is wrong shows when the line is run
        kept = text[: len(text) - (completed.end - completed.start)]
        return [kept + match for match in completed.matches]


def at_terminal() -> bool:
    """Whether a person is typing."""
    return sys.stdin.isatty() and sys.stdout.isatty()
