"""The register of classes whose instances may be part of a snapshot.

``@saved("name")`` on a class says: instances may be written to and read from a snapshot by copying their attributes
(``__dict__`` and ``__slots__``). Attribute values may be None, bool, int, float, str, bytes, bytearray, list, tuple, set,
frozenset, dict, deque, enum members of registered enums, and other registered instances; shared references and cycles
are kept. Attributes named in ``skip`` are host things (file descriptors, views); they are not written, and a class that
has some defines ``after_load(env)`` to make them again, ``env`` being the :class:`LoadEnv` of the receiving cell.

Nothing else is ever instantiated from a snapshot: this is not pickle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C", bound=type)

BY_NAME: dict[str, type] = {}
"""Registered name → class."""

BY_CLASS: dict[type, tuple[str, frozenset[str]]] = {}
"""Class → (registered name, skipped attributes)."""


def saved(name: str, *, skip: tuple[str, ...] = ()) -> Callable[[C], C]:
    """Register a class (or Enum class) under a stable ``name``; raises ValueError if the name is taken."""

    def register(cls: C) -> C:
        if name in BY_NAME:
            raise ValueError(f"two classes are saved as {name!r}: {BY_NAME[name]} and {cls}")
        BY_NAME[name] = cls
        BY_CLASS[cls] = (name, frozenset(skip))
        return cls

    return register
