"""Running a page's blocks: Python in this process, commands with bash."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.docs.blocks import Block, blocks, commands, same

HANG_S = 120.0


class Differs(AssertionError):
    """A page shows something else than what happens."""


@dataclass
class Page:
    """One page being run: its directory, its environment, and the namespace of its Python blocks."""

    path: Path
    folder: Path
    home: Path
    namespace: dict[str, Any] = field(default_factory=dict)

    def run(self) -> int:
        """Run every block that is not exempt, in order; returns how many ran."""
        found = blocks(self.path)
        count = 0
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.not_run:
                continue
            if block.language == "python":
                shown = following if following is not None and following.language == "text" else None
                self._python(block, shown if shown is not None and shown.after <= 1 else None)
            elif block.language == "console":
                self._console(block)
            elif block.language == "sh":
                self._command(block.place, f"set -eu\n{block.text}", None)
            else:
                continue
            count += 1
        return count

    def _python(self, block: Block, shown: Block | None) -> None:
        source = "\n" * (block.line - 1) + block.text
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), _inside(self.folder):
            exec(compile(source, block.page, "exec"), self.namespace)
        if shown is not None:
            _compare(shown.place, shown.text, printed.getvalue())

    def _console(self, block: Block) -> None:
        for command in commands(block):
            self._command(f"{block.page}:{command.line}", command.text, command.expected)

    def _command(self, place: str, text: str, expected: str | None) -> None:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HANG_S,
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise Differs(f"{place}: status {done.returncode} of: {text}\n{output}")
        if expected is not None:
            _compare(place, expected, output)

    def environment(self) -> dict[str, str]:
        """This process's, with the page's data directory, this ``prong`` first, and plain output."""
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        plain = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "160", "LC_ALL": "C.UTF-8"}
        return {**os.environ, **plain, "PATH": path, "PRONG_HOME": str(self.home)}


def _compare(place: str, expected: str, output: str) -> None:
    if not same(expected, output):
        raise Differs(f"{place}: the page shows\n{expected}\nbut this is printed\n{output}")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
