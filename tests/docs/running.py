"""Running a page's blocks: Python in this process, commands with bash, sessions of ``prong repl`` through pipes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.docs.blocks import SNAPSHOT, Block, blocks, commands, same

HANG_S = 120.0
FILES = Path(__file__).parent / "files"


class Differs(AssertionError):
    """A page shows something else than what happens."""


@dataclass
class Page:
    """One page being run: its directory, its data directory, the images there are, the namespace of its Python blocks."""

    path: Path
    folder: Path
    home: Path
    images: frozenset[str] = frozenset()
    namespace: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    session: Session | None = None

    def __post_init__(self) -> None:
        for file in sorted((FILES / self.path.stem).glob("*.txt")):
            shutil.copyfile(file, self.folder / file.stem)

    def run(self) -> int:
        """Run every block that is not exempt, in order; returns how many ran."""
        try:
            return self._run()
        finally:
            if self.session is not None:
                self.session.kill()

    def _run(self) -> int:
        found = blocks(self.path)
        count = 0
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.not_run or (block.needs and block.needs not in self.images):
                continue
            if block.language == "python":
                shown = following if following is not None and following.language == "text" else None
                self._python(block, shown if shown is not None and shown.after <= 1 else None)
            elif block.language == "console":
                self._console(block)
            elif block.language == "sh":
                self._shell(block.place, f"set -eu\n{block.text}", None)
            else:
                continue
            count += 1
        self._end_session("the end of the page")
        return count

    def _python(self, block: Block, shown: Block | None) -> None:
        source = "\n" * (block.line - 1) + block.text
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), _inside(self.folder):
            exec(compile(source, block.page, "exec"), self.namespace)
        if shown is not None:
            self._compare(shown.place, shown.text, printed.getvalue())

    def _console(self, block: Block) -> None:
        for command in commands(block):
            place = f"{block.page}:{command.line}"
            text = self._with_real_ids(command.text)
            if command.kind == "input":
                if self.session is None:
                    raise Differs(f"{place}: an input and no session; begin with $ prong repl")
                self._compare(place, command.expected, self.session.ask(text))
                continue
            self._end_session(place)
            if command.kind == "repl":
                self.session = Session(text, self.folder, self.environment())
            else:
                self._shell(place, text, command.expected)

    def _end_session(self, place: str) -> None:
        session, self.session = self.session, None
        if session is not None and (status := session.end()) != 0:
            raise Differs(f"{place}: the session before it ended with status {status}")

    def _shell(self, place: str, text: str, expected: str | None) -> None:
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
        self._compare(place, expected, output)

    def _compare(self, place: str, expected: str | None, output: str) -> None:
        """Raise Differs if ``output`` is not what is shown; learn the ids in it."""
        if expected is None:
            return
        if not same(expected, output):
            raise Differs(f"{place}: the page shows\n{expected}\nbut this is printed\n{output}")
        self.ids |= zip(re.findall(SNAPSHOT, expected), re.findall(SNAPSHOT, output), strict=False)

    def _with_real_ids(self, text: str) -> str:
        """``text`` with ids shown on the page, or their beginnings, replaced by those they stand for."""
        for shown, real in self.ids.items():
            for word in set(re.findall(rf"\b{shown[:4]}[a-z2-7]*\b", text)):
                text = text.replace(word, real[: len(word)])
        return text

    def environment(self) -> dict[str, str]:
        """This process's, with the page's data directory, this ``prong`` first, and plain output."""
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        plain = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "160", "LC_ALL": "C.UTF-8"}
        return {**os.environ, **plain, "PATH": path, "PRONG_HOME": str(self.home)}


class Session:
    """A ``prong repl`` that is talked to through pipes. What it prints for one input is found by a mark printed after."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self._asked = 0
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, line: str) -> str:
        """Give it one input; returns what it prints."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asked += 1
        mark = f"end of input {self._asked}"
        self._process.stdin.write(f"{line}\nprint({mark!r})\n")
        self._process.stdin.flush()
        printed: list[str] = []
        for answer in self._process.stdout:
            if answer.strip() == mark:
                return "".join(printed)
            printed.append(answer)
        raise Differs(f"the session ended at {line!r}:\n{''.join(printed)}")

    def end(self) -> int:
        """Close its input and wait; returns its exit status."""
        self._process.communicate(timeout=HANG_S)
        return self._process.returncode

    def kill(self) -> None:
        """End it whatever it does."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
