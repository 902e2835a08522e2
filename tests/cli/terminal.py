"""The installed ``prong`` as a process, for tests: run it to its end, or talk to it while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from tests.cell_support import PATHS

PRONG = str(Path(sys.executable).parent / "prong")
HANG_S = 120.0


def environment() -> dict[str, str]:
    """This process's, with the data directory the fixtures use and plain output."""
    return {**os.environ, "PRONG_HOME": str(PATHS.home), "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}


def prong(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run one command line to its end; without ``stdin`` it has none."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run([PRONG, *words], capture_output=True, timeout=HANG_S, env=environment(), **given)


def prong_json(*words: str, stdin: bytes | None = None, status: int = 0) -> Any:
    """The document ``prong … --json`` prints; nothing else may be printed."""
    done = prong("--json", *words, stdin=stdin)
    assert (done.returncode, done.stderr) == (status, b""), done.stderr.decode()
    return json.loads(done.stdout)


class Running:
    """A command line that runs, with pipes on its streams. Ended when the block ends."""

    def __init__(self, *words: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([PRONG, *words], stdin=pipe, stdout=pipe, stderr=pipe, env=environment())

    def line(self) -> str:
        """The next line of standard output."""
        return _open(self.process.stdout).readline().decode()

    def send(self, text: str) -> None:
        """Write to standard input."""
        stdin = _open(self.process.stdin)
        stdin.write(text.encode())
        stdin.flush()

    def end(self) -> tuple[int, str, str]:
        """Wait for it: status, the rest of standard output, standard error."""
        out, err = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, out.decode(), err.decode()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        with self.process:
            self.process.kill()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
