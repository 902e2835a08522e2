"""Tab completion: names, and attributes of what a dotted name leads to."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from typing import Any

_NAME_END = re.compile(r"(?:[^\W\d]\w*\.)*(?:[^\W\d]\w*)?$")
_MOST = 500
_LONGEST = 500


def complete(code: str, cursor: int, namespace: dict[str, Any]) -> dict[str, Any]:
    """The fields of a ``completed`` event. Looks attributes up, which may run user code: call it under a guard.

    Args:
        code: what has been typed.
        cursor: characters before the cursor.
        namespace: where names are looked up, before builtins.
    """
    typed = code[: max(0, cursor)]
    found = _NAME_END.search(typed, max(0, len(typed) - _LONGEST))
    if found is None or typed[: found.start()].endswith("."):  # an attribute of a call or an index: not evaluated
        return {"matches": [], "start": len(typed), "end": len(typed)}
    dotted = found.group()
    *path, prefix = dotted.split(".")
    matches = _attributes(path, namespace) if path else _names(namespace)
    fitting = [name for name in matches if len(name) <= _LONGEST and name.startswith(prefix)]
    matching = sorted(name for name in fitting if prefix or not name.startswith("_"))
    return {"matches": matching[:_MOST], "start": len(typed) - len(prefix), "end": len(typed)}


def _names(namespace: dict[str, Any]) -> set[str]:
    return _texts((*namespace, *vars(builtins), *keyword.kwlist))


def _attributes(path: list[str], namespace: dict[str, Any]) -> set[str]:
    missing = object()
    value = namespace.get(path[0], vars(builtins).get(path[0], missing))
    for name in path[1:]:
        value = getattr(value, name, missing)
    if value is missing:
        return set()
    return _texts(dir(value))


def _texts(names: Iterable[object]) -> set[str]:
    return {name for name in names if isinstance(name, str)}  # user code can make keys and __dir__ give anything
