"""Before the snapshot: the template's warm-up file, and a rehearsal of the paths every run takes."""

from __future__ import annotations

import builtins
import linecache
import os
import sys
from typing import TYPE_CHECKING, Any

from . import figures, sources, streams
from . import messages as m
from .contexts import Context
from .forking import reseed
from .interrupts import guard
from .tracebacks import describe, trim

if TYPE_CHECKING:
    from .runtime import Session

_REHEARSAL = "__rehearsal__"
_CELLS = (
    "print(end='', flush=True)",
    "import prong\nx = [i for i in range(3)]\nx",
    "import asyncio\nawait asyncio.sleep(0)",
    "def f():\n    return 1 / 0\nf()",
    "print(end='')\n1 + 1",
)


def warm(context: Context, filename: str) -> dict[str, Any] | None:
    """Run a file in the context, as its ``__main__``, and keep what it made. Returns the error object if it failed."""
    _, failure = guard(lambda: _run_file(context, filename))
    _, late_failure = guard(_settle)
    failure = failure or late_failure
    if failure is None or (isinstance(failure, SystemExit) and failure.code in (None, 0)):
        return None
    trim(failure, filename)
    return describe(failure)


def _run_file(context: Context, filename: str) -> None:
    with open(filename, "rb") as file:
        code = file.read()
    namespace = context.namespace
    namespace["__builtins__"] = builtins
    namespace["__file__"] = filename
    exec(sources.compile_program(code, filename), namespace)


def _settle() -> None:
    for figure in figures.open_figures():  # or the first run of every fork would show them
        figures.close(figure)
    streams.flush()


def rehearse(session: Session) -> None:
    """Take real requests through the whole path, with their events dropped, so that the first one finds it warm."""
    session.channel.rehearsing = True
    reseed(os.urandom(64))  # OpenSSL and numpy set up much at their first seeding; every fork would pay for it again
    session.contexts.create(_REHEARSAL, None)
    requests: list[dict[str, Any]] = [{"mode": m.MODE_CELL, "code": code, "context": _REHEARSAL} for code in _CELLS]
    requests.append({"mode": m.MODE_SCRIPT, "code": "print(end='', flush=True)", "context": None})
    for request in requests:
        session.channel.unread({"type": m.RUN, "id": 1, "nonce": "rehearsal", "env": None, "argv": [""], **request})
        session.handle(session.channel.receive())
    session.contexts.remove(_REHEARSAL)
    session.contexts.get(m.MAIN_CONTEXT).activate()
    session.runner.last_id = 0
    for name in [name for name in linecache.cache if _REHEARSAL in name or name == "<script>"]:
        del linecache.cache[name]
    session.channel.flush()  # drops the last events
    session.channel.rehearsing = False
    sys.modules["__main__"].__dict__.setdefault("__builtins__", builtins)
