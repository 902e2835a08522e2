"""An exception as data: its name, its message, its frames, and the text Python would print, without our own frames."""

from __future__ import annotations

import linecache
import traceback
import types
from typing import Any

from .interrupts import guard

_get_line = linecache.getline
_OWN_DIRECTORY = __file__.rpartition("/")[0] + "/"
_HEAD = _TAIL = 100
"""Frames kept at each end of a long traceback."""
_VALUE_LIMIT = 64 * 1024
_TEXT_LIMIT = 512 * 1024
_SOURCE_LIMIT = 500
_POSITION_LIMIT = 2**31


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` characters: the first and the last, and how many are missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… [{len(text) - 2 * half} characters left out]\n{text[-half:]}"


def trim(error: BaseException, filename: str) -> None:
    """Cut from its traceback what is before the run's own code (``filename``): the runtime, an event loop."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename != filename:
        first = first.tb_next
    if first is None:
        first = error.__traceback__
        while first is not None and first.tb_frame.f_code.co_filename.startswith(_OWN_DIRECTORY):
            first = first.tb_next
    error.__traceback__ = first


def _frames(tb: types.TracebackType | None) -> list[dict[str, Any]]:
    entries = []
    while tb is not None:
        entries.append((tb.tb_frame, tb.tb_lineno))
        tb = tb.tb_next
    if len(entries) > _HEAD + _TAIL:
        entries = entries[:_HEAD] + entries[-_TAIL:]
    frames = []
    for frame, line in entries:
        code = frame.f_code
        if code.co_filename.startswith(_OWN_DIRECTORY):
            continue
        source = _get_line(code.co_filename, line, frame.f_globals).strip()[:_SOURCE_LIMIT]
        function = getattr(code, "co_qualname", code.co_name)  # co_qualname: Python 3.11
        file = code.co_filename[:_SOURCE_LIMIT]
        frames.append({"file": file, "line": line, "function": function[:_SOURCE_LIMIT], "source": source})
    return frames


def _position(value: object) -> int | None:
    """A line or column as the host takes it; a SyntaxError made by user code may hold anything."""
    return value if type(value) is int and 0 <= value < _POSITION_LIMIT else None


def _short(value: object) -> str | None:
    return None if value is None else str(value)[:_SOURCE_LIMIT]


def _syntax(error: SyntaxError) -> dict[str, Any]:
    return {
        "file": _short(error.filename),
        "line": _position(error.lineno),
        "column": _position(error.offset),
        "end_line": _position(getattr(error, "end_lineno", None)),  # both: Python 3.10
        "end_column": _position(getattr(error, "end_offset", None)),
        "text": _short(error.text),
    }


def _value(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # user code: anything may be raised in a user's __str__; the traceback module says the same
        return "<exception str() failed>"


def _strip_own(report: traceback.TracebackException | None, seen: set[int]) -> None:
    """Take the runtime's frames from a report and from its causes (display() called by user code raises in ours)."""
    while report is not None and id(report) not in seen:
        seen.add(id(report))
        report.stack[:] = [frame for frame in report.stack if not frame.filename.startswith(_OWN_DIRECTORY)]
        _strip_own(report.__cause__, seen)
        report = report.__context__


def format_error(error: BaseException) -> str:
    """The text Python prints for an uncaught exception."""
    report = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    _strip_own(report, set())
    text = "".join(report.format())
    header = "Traceback (most recent call last):\n"
    if error.__traceback__ is None and text.startswith(header):
        text = text[len(header) :]  # as the interpreter does for a SyntaxError in what it was given
    return _cut(text, _TEXT_LIMIT)


def _describe(error: BaseException) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": type(error).__name__[:_SOURCE_LIMIT],
        "value": _cut(_value(error), _VALUE_LIMIT),
        "traceback": _frames(error.__traceback__),
        "formatted": format_error(error),
    }
    if isinstance(error, SyntaxError):
        described["syntax"] = _syntax(error)
    return described


def describe(error: BaseException) -> dict[str, Any]:
    """The error object of an exception already trimmed. Never raises: describing runs user code under a guard."""
    described, failure = guard(lambda: _describe(error))
    if described is not None:
        return described
    name = type.__dict__["__name__"].__get__(type(error))[:_SOURCE_LIMIT]
    problem = type.__dict__["__name__"].__get__(type(failure))
    text = f"<describing this exception raised {problem}>"
    return {"name": name, "value": text, "traceback": [], "formatted": f"{name}: {text}\n"}
