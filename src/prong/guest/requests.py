"""Checks of requests: the host is trusted, but a mistake of it should be named, not crash the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import messages as m

_LONGEST_NAME = 200
_TEXT = (str,)
_TEXT_OR_NONE = (str, type(None))
_WHOLE = (int,)
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    m.RUN: {
        "nonce": _TEXT,
        "mode": _TEXT,
        "code": _TEXT_OR_NONE,
        "filename": _TEXT_OR_NONE,
        "context": _TEXT_OR_NONE,
        "cwd": _TEXT_OR_NONE,
        "env": (dict, type(None)),
        "argv": (list, type(None)),
        "display_limit": (int, type(None)),
        "announce": (bool, type(None)),
        "own_input": (bool, type(None)),
        "fork": (dict, type(None)),
    },
    m.FORK: {"seed": _TEXT, "generation": _TEXT_OR_NONE, "info": (dict, type(None))},
    m.CONTEXTS: {"op": _TEXT, "name": _TEXT_OR_NONE, "cwd": _TEXT_OR_NONE},
    m.COMPLETE: {"code": _TEXT, "cursor": _WHOLE, "context": _TEXT_OR_NONE},
    m.PING: {},
}


def check(request: object) -> str | None:
    """What is wrong with a request, in words, or None."""
    if not isinstance(request, dict):
        return "a request is an object"
    kind = request.get("type")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        return f"unknown request type {kind!r}"
    if type(request.get("id")) is not int or request["id"] < 1:
        return "a request has a positive whole number as id"
    for name, kinds in fields.items():
        if not isinstance(request.get(name), kinds):
            return f"{kind}: {name} may not be {type(request.get(name)).__name__}"
    if kind == m.RUN:
        return _check_run(request)
    if kind == m.CONTEXTS:
        return _check_contexts(request)
    return None


def _check_run(request: Mapping[str, Any]) -> str | None:
    mode = request["mode"]
    if mode not in m.MODES:
        return f"run: unknown mode {mode!r}"
    needed = "filename" if mode == m.MODE_FILE else "code"
    if request.get(needed) is None:
        return f"run: mode {mode} needs {needed}"
    return None


def _check_contexts(request: Mapping[str, Any]) -> str | None:
    if request["op"] not in ("create", "list", "remove", "reset"):
        return f"contexts: unknown op {request['op']!r}"
    name = request.get("name")
    if request["op"] != "list" and (not name or len(name) > _LONGEST_NAME):
        return f"contexts: a name has 1 to {_LONGEST_NAME} characters"
    return None
