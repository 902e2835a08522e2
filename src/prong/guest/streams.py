"""sys.stdin, stdout and stderr: line buffered so that output is seen as it appears, and mended after misuse."""

from __future__ import annotations

import io
import sys
from typing import IO, cast

_TABLE = (
    ("stdin", 0, "r", "surrogateescape"),
    ("stdout", 1, "w", "surrogateescape"),
    ("stderr", 2, "w", "backslashreplace"),
)


def _open(descriptor: int, mode: str, errors: str) -> io.TextIOWrapper:
    stream = open(descriptor, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115  # lives on in sys
    cast(io.TextIOWrapper, stream).reconfigure(line_buffering=mode == "w")
    return cast(io.TextIOWrapper, stream)


def _is_usable(stream: object) -> bool:
    """False for None and for a closed or detached text stream; user's own objects are left to the user."""
    if type(stream) is not io.TextIOWrapper:
        return stream is not None
    try:
        return not stream.closed
    except ValueError:  # detached
        return False


def set_up() -> None:
    """Make output line buffered: what is printed is then one write a line, and visible at once."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    mend()


def mend() -> None:
    """Reopen each standard stream that user code closed, detached, deleted or set to None."""
    for name, descriptor, mode, errors in _TABLE:
        if not _is_usable(getattr(sys, name, None)):
            original = getattr(sys, f"__{name}__", None)
            if original is None or not _is_usable(original):
                original = _open(descriptor, mode, errors)
                setattr(sys, f"__{name}__", original)
            setattr(sys, name, original)


def forget_input() -> None:
    """Give ``sys.stdin`` a new reader: the old one holds what a run read ahead of its own input and did not use."""
    if type(sys.stdin) is io.TextIOWrapper:
        sys.stdin = _open(0, "r", "surrogateescape")
        setattr(sys, "__stdin__", sys.stdin)  # noqa: B010  # final only to type checkers


def flush() -> None:
    """Flush stdout and stderr. Raises what flushing raises (a closed descriptor, a user's stream)."""
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
        if stream is not None and _is_usable(stream):
            cast("IO[str]", stream).flush()
